-- "values" is a keyword of SQL
select * rename ("values" as solution) from {{ source('lake', 'baseline_runs') }}
