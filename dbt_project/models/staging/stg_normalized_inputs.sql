select * from {{ source('lake', 'normalized_inputs') }}
