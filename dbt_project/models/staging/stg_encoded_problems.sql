select * from {{ source('lake', 'encoded_problems') }}
