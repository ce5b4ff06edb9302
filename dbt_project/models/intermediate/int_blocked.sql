-- An instance is blocked while the newest result of a blocking check, on any stage, is a failure.
select
    instance,
    string_agg(asset || ': ' || check_name, ', ' order by asset, check_name) as blocked_by
from (
    select *
    from {{ ref('stg_control_materializations') }}
    where event = 'check' and blocking = 'true' and instance is not null
    qualify row_number() over (partition by instance, asset, check_name order by happened_at desc) = 1
)
where passed = 'false'
group by instance
