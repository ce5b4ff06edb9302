select
    r.*,
    i.encoding_is_current and coalesce(r.envelope_digest = i.envelope_digest, false) and r.input_digest = i.input_digest as is_current,
    i.pending
from {{ ref('stg_decisions') }} as r
inner join {{ ref('int_instances') }} as i using (instance)
where i.blocked_by is null
