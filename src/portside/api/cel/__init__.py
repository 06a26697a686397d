"""CEL, the expression language of validation rules and admission policies, as Kubernetes 1.37 sets it up.

``compile_expression`` makes a Program or raises CompileFailure; ``types`` and ``declared`` say what variables are.
Nothing here is imported until a cluster has an expression.
"""

from portside.api.cel.program import (
    PER_CALL_LIMIT,
    InstantiationFailure,
    Program,
    ResultTypeFailure,
    compile_expression,
)
from portside.api.cel.source import CompileFailure
from portside.api.cel.values import CelRuntimeError, CostExceeded

__all__ = [
    "PER_CALL_LIMIT",
    "CelRuntimeError",
    "CompileFailure",
    "CostExceeded",
    "InstantiationFailure",
    "Program",
    "ResultTypeFailure",
    "compile_expression",
]
