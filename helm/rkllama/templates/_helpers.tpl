{{/* Names, labels, and what every pod of ours has. */}}

{{- define "rkllama.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 40 characters, so that `-npu-worker-rv1126b` and a pod's own suffix fit behind it. */}}
{{- define "rkllama.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "rkllama.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "rkllama.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels of everything. Takes (dict "root" $ "component" "gateway"). */}}
{{- define "rkllama.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: rkllama
{{ include "rkllama.selector" . }}
{{- end -}}

{{- define "rkllama.selector" -}}
app.kubernetes.io/name: {{ include "rkllama.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* The image of one service. Takes (dict "root" $ "image" .Values.gateway.image). */}}
{{- define "rkllama.image" -}}
{{- $registry := .image.registry | default .root.Values.image.registry -}}
{{- with $registry }}{{ trimSuffix "/" . }}/{{ end }}{{ .image.repository }}
{{- if .image.digest }}@{{ .image.digest }}{{ else }}:{{ .image.tag | default .root.Values.image.tag | default .root.Chart.AppVersion }}{{ end -}}
{{- end -}}

{{/* A value as the text of an environment variable: YAML's numbers are floats in templates, which
     would print 67108864 as 6.7108864e+07. */}}
{{- define "rkllama.text" -}}
{{- if and (kindIs "float64" .) (eq . (floor .)) -}}{{ int64 . }}{{- else -}}{{ . }}{{- end -}}
{{- end -}}

{{/* A block `settings` as variables. Takes (dict "prefix" "RKLLAMA_GATEWAY_" "settings" .Values.gateway.settings). */}}
{{- define "rkllama.settings" -}}
{{- $prefix := .prefix -}}
{{- range $field, $value := .settings }}
- name: {{ $prefix }}{{ upper $field }}
  value: {{ include "rkllama.text" $value | quote }}
{{- end }}
{{- end -}}

{{/* Variables that every service of ours shares. */}}
{{- define "rkllama.shared" -}}
- name: RKLLAMA_DATA
  value: /data
{{- if .Values.debug }}
- name: RKLLAMA_DEBUG
  value: "true"
{{- end }}
{{- end -}}

{{- define "rkllama.natsUrl" -}}
{{- if .Values.nats.enabled -}}
nats://{{ include "rkllama.fullname" . }}-nats.{{ .Release.Namespace }}.svc:4222
{{- else -}}
{{ required "nats.enabled is false, so externalNats.url must name a broker" .Values.externalNats.url }}
{{- end -}}
{{- end -}}

{{- define "rkllama.storeUrl" -}}
http://{{ include "rkllama.fullname" . }}-model-store.{{ .Release.Namespace }}.svc:8082
{{- end -}}

{{/* `http`, or `https` where gateways have a certificate. */}}
{{- define "rkllama.scheme" -}}
{{ ternary "https" "http" (not (empty .Values.gateway.tls.existingSecret)) }}
{{- end -}}

{{/* The Secret with `keys.json`, `admin-key` and `metrics-key`. */}}
{{- define "rkllama.keysSecret" -}}
{{- .Values.auth.existingSecret | default (printf "%s-keys" (include "rkllama.fullname" .)) -}}
{{- end -}}

{{/* What a pod says besides its containers. Takes (dict "root" $ "values" .Values.gateway).
     Service links are off because `<release>-gateway` would become RKLLAMA_GATEWAY_PORT, which is a setting. */}}
{{- define "rkllama.pod" -}}
serviceAccountName: {{ include "rkllama.fullname" .root }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "rkllama.nodeSelector" -}}
{{- with .nodeSelector -}}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Replicas on nodes of their own where there are any. */}}
{{- define "rkllama.spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "rkllama.selector" . | nindent 8 }}
{{- end -}}

{{/* Takes (dict "root" $ "component" "gateway" "values" .Values.gateway), and `group` where there are several. */}}
{{- define "rkllama.podMetadata" -}}
labels:
  {{- include "rkllama.labels" . | nindent 2 }}
  {{- with .group }}
  rkllama/group: {{ . }}
  {{- end }}
  {{- with .values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .values.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The user that the images run as (`USER` in their Dockerfiles). */}}
{{- define "rkllama.podSecurity" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- end -}}

{{- define "rkllama.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end -}}

{{/* Liveness and readiness, on the port named `http`. A start may wait for an NPU that an orphan still has.
     Takes (dict "scheme" "HTTP"). */}}
{{- define "rkllama.probes" -}}
startupProbe:
  httpGet: {path: /livez, port: http, scheme: {{ .scheme }}}
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /livez, port: http, scheme: {{ .scheme }}}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: http, scheme: {{ .scheme }}}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 2
{{- end -}}

{{/* Seconds from SIGTERM to SIGKILL: the drain time, what is before it (preStop) and what comes after. */}}
{{- define "rkllama.grace" -}}
{{- add (required "settings.drain_timeout_s is needed: a pod's time to end follows from it" .settings.drain_timeout_s | ceil | int) 20 -}}
{{- end -}}
