{# A job's fallback path, a JSON list of hops, as a sentence; null where no backend was left. #}
{% macro fallback_reason(column) -%}
    nullif(array_to_string(list_transform(
        from_json({{ column }}, '[{"backend": "VARCHAR", "failure_class": "VARCHAR", "reason": "VARCHAR", "next_backend": "VARCHAR"}]'),
        lambda step: step.backend || coalesce(' to ' || step.next_backend, ', and no further') || ': ' || step.reason
            || ' (' || step.failure_class || ')'
    ), '; '), '')
{%- endmacro %}
