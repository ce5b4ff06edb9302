select * from {{ source('lake', 'quantum_jobs') }}
