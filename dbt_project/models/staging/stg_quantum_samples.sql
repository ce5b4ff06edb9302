select * from {{ source('lake', 'quantum_samples') }}
