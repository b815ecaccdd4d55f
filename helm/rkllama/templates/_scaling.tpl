{{/* A Deployment that KEDA scales by a Prometheus query. Takes (dict "root" $ "component" "gateway" "keda" ...
     "metricType" "AverageValue"): a sum is shared among replicas, a wait is not. */}}
{{- define "rkllama.scaledObject" -}}
{{- if gt (int .keda.minReplicas) (int .keda.maxReplicas) }}{{ fail (printf "%s: keda.minReplicas is above keda.maxReplicas" .component) }}{{ end -}}
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: {{ include "rkllama.fullname" .root }}-{{ .component }}
  labels:
    {{- include "rkllama.labels" . | nindent 4 }}
spec:
  scaleTargetRef:
    name: {{ include "rkllama.fullname" .root }}-{{ .component }}
  minReplicaCount: {{ .keda.minReplicas }}
  maxReplicaCount: {{ .keda.maxReplicas }}
  pollingInterval: 15
  triggers:
    - type: prometheus
      metricType: {{ .metricType }}
      metadata:
        serverAddress: {{ required (printf "%s: keda.prometheusUrl is needed" .component) .keda.prometheusUrl | quote }}
        query: {{ .keda.query | quote }}
        threshold: {{ include "rkllama.text" .keda.threshold | quote }}
        # Before anything was ever asked there is no such series.
        ignoreNullValues: "true"
{{- end -}}
