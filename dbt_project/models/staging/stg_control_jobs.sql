select * from {{ source('lake', 'control_jobs') }}
