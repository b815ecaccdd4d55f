{{/* What NPU and CPU workers have in common. */}}

{{/* The SoC that pulled models are for: what is said, else the boards' if they are all of one kind. */}}
{{- define "rkllama.modelsSoc" -}}
{{- $socs := list -}}
{{- if .Values.npuWorker.enabled -}}
{{- range .Values.npuWorker.nodes }}{{ $socs = append $socs .soc }}{{ end -}}
{{- if not .Values.npuWorker.nodes }}{{ $socs = .Values.npuWorker.socs }}{{ end -}}
{{- end -}}
{{- if .Values.modelStore.soc -}}
{{ .Values.modelStore.soc }}
{{- else if eq (len (uniq $socs)) 1 -}}
{{ first $socs }}
{{- end -}}
{{- end -}}

{{/* Takes (dict "root" $ "settings" ... "runtime" "cpu"). */}}
{{- define "rkllama.worker.env" -}}
{{- include "rkllama.shared" .root }}
{{ include "rkllama.nats.env" .root }}
- name: RKLLAMA_WORKER_HTTP_HOST
  value: 0.0.0.0
- name: RKLLAMA_WORKER_HTTP_PORT
  value: "8081"
- name: RKLLAMA_WORKER_RUNTIME
  value: {{ .runtime }}
- name: RKLLAMA_WORKER_CACHE_DIR
  value: /data/cache
- name: RKLLAMA_WORKER_SAVED_DIR
  value: /data/cache/saved
- name: RKLLAMA_WORKER_SUBJECT_PREFIX
  value: {{ .root.Values.subjectPrefix }}
{{- include "rkllama.settings" (dict "prefix" "RKLLAMA_WORKER_" "settings" .settings) }}
{{- end -}}
