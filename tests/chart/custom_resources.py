"""What the Prometheus operator and KEDA take, as far as this chart says anything to them.

Closed schemas of our own for `monitoring.coreos.com/v1` (prometheus-operator) and `keda.sh/v1alpha1`
(KEDA). They have not been compared with the operators' own definitions; they are there so that a mistyped
field fails, and a new one has to be looked up.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
LABELS: Schema = {"type": "object", "additionalProperties": TEXT}
DURATION: Schema = {"type": "string", "pattern": r"^(0|(([0-9]+)y)?(([0-9]+)w)?(([0-9]+)d)?"}
DURATION["pattern"] += r"(([0-9]+)h)?(([0-9]+)m)?(([0-9]+)s)?(([0-9]+)ms)?)$"


def closed(required: str = "", **properties: Schema) -> Schema:
    """An object with these fields only."""
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "required": required.split(),
    }


def items(schema: Schema) -> Schema:
    """A list of these, not an empty one."""
    return {"type": "array", "items": schema, "minItems": 1}


def resource(spec: Schema) -> Schema:
    """An object of Kubernetes with this `spec`."""
    metadata = closed("name labels", name=TEXT, labels=LABELS)
    return closed(
        "apiVersion kind metadata spec", apiVersion=TEXT, kind=TEXT, metadata=metadata, spec=spec
    )


EXPRESSION = closed(
    "key operator",
    key=TEXT,
    operator={"enum": ["In", "NotIn", "Exists", "DoesNotExist"]},
    values=items(TEXT),
)
SERVICE_MONITOR = closed(
    "selector endpoints",
    selector=closed(matchLabels=LABELS, matchExpressions=items(EXPRESSION)),
    namespaceSelector=closed(matchNames=items(TEXT)),
    endpoints=items(
        closed(
            "port path",
            port=TEXT,
            path=TEXT,
            interval=DURATION,
            scheme={"enum": ["http", "https"]},
            tlsConfig=closed(insecureSkipVerify={"type": "boolean"}),
            authorization=closed(
                "type credentials", type=TEXT, credentials=closed("name key", name=TEXT, key=TEXT)
            ),
            relabelings=items(
                closed("targetLabel replacement", targetLabel=TEXT, replacement=TEXT)
            ),
        )
    ),
)
RECORDING = closed("record expr", record=TEXT, expr=TEXT, labels=LABELS)
ALERT = closed(
    "alert expr", alert=TEXT, expr=TEXT, labels=LABELS, annotations=LABELS, **{"for": DURATION}
)
PROMETHEUS_RULE = closed(
    "groups",
    groups=items(closed("name rules", name=TEXT, rules=items({"oneOf": [RECORDING, ALERT]}))),
)
COUNT: Schema = {"type": "integer", "minimum": 0}
SCALED_OBJECT = closed(
    "scaleTargetRef triggers",
    scaleTargetRef=closed("name", name=TEXT),
    minReplicaCount=COUNT,
    maxReplicaCount=COUNT,
    pollingInterval=COUNT,
    triggers=items(
        closed(
            "type metadata",
            type={"const": "prometheus"},
            metricType={"enum": ["AverageValue", "Value"]},
            # Texts all of them: KEDA reads numbers out of them.
            metadata=closed(
                "serverAddress query threshold",
                serverAddress=TEXT,
                query=TEXT,
                threshold={"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?$"},
                ignoreNullValues={"enum": ["true", "false"]},
            ),
        )
    ),
)

SCHEMAS: dict[str, dict[str, Schema]] = {
    "monitoring.coreos.com/v1": {
        "ServiceMonitor": resource(SERVICE_MONITOR),
        "PrometheusRule": resource(PROMETHEUS_RULE),
    },
    "keda.sh/v1alpha1": {"ScaledObject": resource(SCALED_OBJECT)},
}
