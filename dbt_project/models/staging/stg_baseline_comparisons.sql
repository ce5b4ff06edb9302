select * from {{ source('lake', 'baseline_comparisons') }}
