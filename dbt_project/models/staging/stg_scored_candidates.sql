-- "values" is a keyword of SQL
select * rename ("values" as solution) from {{ source('lake', 'scored_candidates') }}
