{{/* The broker: its configuration, and how the services reach it. */}}

{{/* The Secret with the credentials of a role, or nothing. Takes (dict "root" $ "role" "worker" "node" "board-1"). */}}
{{- define "rkllama.nats.secret" -}}
{{- $given := ternary .root.Values.nats.existingSecrets .root.Values.externalNats.existingSecrets .root.Values.nats.enabled -}}
{{- $name := get $given .role -}}
{{- if $name -}}
{{ $name }}
{{- else if .root.Values.nats.enabled -}}
{{ include "rkllama.fullname" .root }}-nats-{{ .role }}{{ with .node }}-{{ . | replace "." "-" }}{{ end }}
{{- end -}}
{{- end -}}

{{/* The Secret whose `ca.crt` the broker's certificate is checked with, or nothing. */}}
{{- define "rkllama.nats.ca" -}}
{{- ternary .Values.nats.tls.existingSecret .Values.externalNats.caSecret .Values.nats.enabled -}}
{{- end -}}

{{/* An external broker may take no credentials. */}}
{{- define "rkllama.nats.env" -}}
- name: RKLLAMA_NATS_URL
  value: {{ include "rkllama.natsUrl" . | quote }}
{{- if include "rkllama.nats.secret" (dict "root" . "role" "gateway") }}
- name: RKLLAMA_NATS_CREDENTIALS_FILE
  value: /etc/rkllama/nats/credentials.json
{{- end }}
{{- if include "rkllama.nats.ca" . }}
- name: RKLLAMA_NATS_TLS_CA_FILE
  value: /etc/rkllama/nats-ca/ca.crt
{{- end }}
{{- end -}}

{{- define "rkllama.nats.mounts" -}}
{{- if include "rkllama.nats.secret" (dict "root" . "role" "gateway") }}
- {name: nats, mountPath: /etc/rkllama/nats, readOnly: true}
{{- end }}
{{- if include "rkllama.nats.ca" . }}
- {name: nats-ca, mountPath: /etc/rkllama/nats-ca, readOnly: true}
{{- end }}
{{- end -}}

{{/* Takes what `rkllama.nats.secret` takes. */}}
{{- define "rkllama.nats.volumes" -}}
{{- with include "rkllama.nats.secret" . }}
- name: nats
  secret:
    secretName: {{ . }}
    defaultMode: 0440
    items:
      - {key: credentials.json, path: credentials.json}
{{- end }}
{{- with include "rkllama.nats.ca" .root }}
- name: nats-ca
  secret:
    secretName: {{ . }}
    defaultMode: 0440
    items:
      - {key: ca.crt, path: ca.crt}
{{- end }}
{{- end -}}

{{/* The users, without passwords, as a JSON list: one for each role, and one for each board that `npuWorker.nodes` lists. */}}
{{- define "rkllama.nats.users" -}}
{{- $users := list (dict "user" "gateway" "role" "gateway" "id" "*") (dict "user" "store" "role" "store" "id" "store") -}}
{{- if or (not .Values.npuWorker.nodes) .Values.cpuWorker.enabled -}}
{{- $users = append $users (dict "user" "workers" "role" "worker" "id" "*") -}}
{{- end -}}
{{- range .Values.npuWorker.nodes -}}
{{- $id := .name | replace "." "-" -}}
{{- $users = append $users (dict "user" $id "role" "worker" "id" $id "node" .name) -}}
{{- end -}}
{{ toJson $users }}
{{- end -}}

{{/* Subjects as JSON, with what stands for prefix, user and process put in. */}}
{{- define "rkllama.nats.subjects" -}}
{{- $result := list -}}
{{- $values := dict "PREFIX" .prefix "USER" .user "ID" .id -}}
{{- range .subjects -}}
{{- $parts := list -}}
{{- range $part := splitList "." . -}}
{{- $parts = append $parts (get $values $part | default $part) -}}
{{- end -}}
{{- $result = append $result (join "." $parts) -}}
{{- end -}}
{{ toJson $result }}
{{- end -}}

{{/* nats-server.conf as JSON, which nats-server reads too. Limits and permissions are those of
     `python -m rkllama_service.broker init`, from files/broker.json.
     Takes (dict "root" $ "passwords" (dict USER TEXT) "route" TEXT). */}}
{{- define "rkllama.nats.config" -}}
{{- $root := .root -}}
{{- $passwords := .passwords -}}
{{- $name := printf "%s-nats" (include "rkllama.fullname" $root) -}}
{{- $known := $root.Files.Get "files/broker.json" | fromJson -}}
{{- $users := list -}}
{{- range include "rkllama.nats.users" $root | fromJsonArray -}}
{{- $permissions := deepCopy (get $known.roles .role) -}}
{{- $into := dict "prefix" $root.Values.subjectPrefix "user" .user "id" .id -}}
{{- range $direction := list "publish" "subscribe" -}}
{{- $subjects := include "rkllama.nats.subjects" (merge (dict "subjects" (get $permissions $direction).allow) $into) | fromJsonArray -}}
{{- $_ := set $permissions $direction (dict "allow" $subjects) -}}
{{- end -}}
{{- /* In clear: they lie beside it in the Secrets of the roles, and a hash would be a new one at every upgrade. */ -}}
{{- $users = append $users (dict "user" .user "password" (get $passwords .user) "permissions" $permissions) -}}
{{- end -}}
{{- $config := deepCopy $known.server -}}
{{- $_ := set $config.authorization "users" $users -}}
{{- $tls := dict "cert_file" "/etc/nats-tls/tls.crt" "key_file" "/etc/nats-tls/tls.key" -}}
{{- if $root.Values.nats.tls.existingSecret -}}
{{- $_ := set $config "tls" (merge (dict "handshake_first" true) $tls) -}}
{{- end -}}
{{- if gt (int $root.Values.nats.replicas) 1 -}}
{{- $routes := list -}}
{{- range $number := until (int $root.Values.nats.replicas) -}}
{{- $routes = append $routes (printf "nats://route:%s@%s-%d.%s-peers.%s.svc:6222" $.route $name $number $name $root.Release.Namespace) -}}
{{- end -}}
{{- $cluster := dict "name" $name "listen" "0.0.0.0:6222" "authorization" (dict "user" "route" "password" .route "timeout" 5) "routes" $routes -}}
{{- if $root.Values.nats.tls.existingSecret -}}
{{- $_ := set $cluster "tls" (merge (dict "ca_file" "/etc/nats-tls/ca.crt") $tls) -}}
{{- end -}}
{{- $_ := set $config "cluster" $cluster -}}
{{- end -}}
{{- /* nats-server knows JSON, but not the escape that Go writes for `>`. */ -}}
{{ toPrettyJson $config | replace "\\u003e" ">" }}
{{- end -}}
