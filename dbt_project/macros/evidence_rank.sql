{# How strong a claim an evidence class is: classical lowest, hardware highest. #}
{% macro evidence_rank(column) -%}
    list_position(['classical', 'surrogate', 'simulator', 'emulator', 'hardware'], {{ column }})
{%- endmacro %}
