select
    d.instance,
    d.family,
    n.size,
    d.sense,
    c.best_quantum,
    c.quantum_backend,
    c.quantum_evidence_class as evidence_class,
    c.best_classical,
    c.best_classical_solver,
    n.best_known,
    c.bound,
    c.quantum_gap,
    c.classical_gap,
    d.confidence,
    d.confidence_low,
    d.confidence_high,
    d.decision,
    d.source,
    d.reason,
    d.objective,
    c.winner,
    e.narrowed,
    d.seconds,
    d.is_current and coalesce(c.is_current, false) as is_current,
    d.pending,
    d.evidence_class as answer_evidence_class
from {{ ref('decisions') }} as d
inner join {{ ref('stg_normalized_inputs') }} as n using (instance)
inner join {{ ref('stg_encoded_problems') }} as e using (instance)
left join {{ ref('comparisons') }} as c on c.instance = d.instance and c.envelope_digest = d.envelope_digest
