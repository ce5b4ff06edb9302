-- "at" is a keyword of SQL
select * rename ("at" as happened_at) from {{ source('lake', 'control_values') }}
