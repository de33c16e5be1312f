{{/* Names and labels. */}}

{{- define "predictor.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Short enough for the suffixes below, and for what KServe appends. Releases may have dots, Services not. */}}
{{- define "predictor.fullname" -}}
{{- $name := printf "%s-%s" .Release.Name (include "predictor.name" .) -}}
{{- if .Values.fullnameOverride -}}
{{- $name = .Values.fullnameOverride -}}
{{- else if contains (include "predictor.name" .) .Release.Name -}}
{{- $name = .Release.Name -}}
{{- end -}}
{{- $name | replace "." "-" | trunc 45 | trimAll "-" -}}
{{- end -}}

{{- define "predictor.labels" -}}
{{- $labels := dict
    "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_")
    "app.kubernetes.io/version" .Chart.AppVersion
    "app.kubernetes.io/managed-by" .Release.Service -}}
{{- toYaml (merge $labels (include "predictor.ownLabels" . | fromYaml) (default dict .Values.commonLabels)) -}}
{{- end -}}

{{/* The labels of an object that has further ones: a key twice is no YAML. */}}
{{- define "predictor.labelsAnd" -}}
{{- toYaml (merge (include "predictor.labels" .context | fromYaml) (default dict .further)) -}}
{{- end -}}

{{- define "predictor.ownLabels" -}}
app.kubernetes.io/name: {{ include "predictor.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* What selects the pods; in mode inferenceService KServe makes them and labels them. */}}
{{- define "predictor.podSelector" -}}
{{- if eq .Values.mode "inferenceService" -}}
serving.kserve.io/inferenceservice: {{ include "predictor.fullname" . }}
component: predictor
{{- else -}}
{{ include "predictor.ownLabels" . }}
{{- end -}}
{{- end -}}

{{- define "predictor.podAnnotations" -}}
{{- $annotations := dict -}}
{{- if .Values.monitoring.annotations -}}
{{- $annotations = dict "prometheus.io/scrape" "true" "prometheus.io/port" "8080" "prometheus.io/path" "/metrics" -}}
{{- if include "predictor.tls" . -}}
{{- $_ := set $annotations "prometheus.io/scheme" "https" -}}
{{- end -}}
{{- end -}}
{{- if and (ne .Values.mode "servingRuntime") (include "predictor.configuration" .) -}}
{{- $_ := set $annotations "checksum/configuration" (include "predictor.configuration" . | sha256sum) -}}
{{- end -}}
{{- if .Values.token.value -}}
{{- $_ := set $annotations "checksum/token" (.Values.token.value | sha256sum) -}}
{{- end -}}
{{- with merge (deepCopy (default dict .Values.podAnnotations)) $annotations -}}
{{- toYaml . -}}
{{- end -}}
{{- end -}}

{{- define "predictor.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "predictor.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "predictor.image" -}}
{{- $variant := ternary "-gpu" "" .Values.gpu.enabled -}}
{{- printf "%s:%s" .Values.image.repository (default (printf "%s%s" .Chart.AppVersion $variant) .Values.image.tag) -}}
{{- end -}}

{{- define "predictor.tokenSecret" -}}
{{- if .Values.token.existingSecret -}}
{{- .Values.token.existingSecret -}}
{{- else if .Values.token.value -}}
{{- printf "%s-token" (include "predictor.fullname" .) -}}
{{- end -}}
{{- end -}}

{{/* Where the models come from: storageUri, claim or builtin. */}}
{{- define "predictor.source" -}}
{{- if .Values.model.pvc.claimName -}}claim
{{- else if and (hasPrefix "pvc://" .Values.model.storageUri) (eq .Values.mode "deployment") -}}claim
{{- else if .Values.model.storageUri -}}storageUri
{{- else -}}builtin
{{- end -}}
{{- end -}}

{{- define "predictor.claimName" -}}
{{- if .Values.model.pvc.claimName -}}{{ .Values.model.pvc.claimName }}
{{- else -}}{{ index (splitList "/" (trimPrefix "pvc://" .Values.model.storageUri)) 0 }}
{{- end -}}
{{- end -}}

{{- define "predictor.claimPath" -}}
{{- if .Values.model.pvc.claimName -}}{{ .Values.model.pvc.subPath }}
{{- else -}}{{ join "/" (rest (splitList "/" (trimPrefix "pvc://" .Values.model.storageUri))) | trimSuffix "/" }}
{{- end -}}
{{- end -}}

{{/* Whether the server speaks HTTPS itself: as a setting says, or else the address of config.properties. */}}
{{- define "predictor.tls" -}}
{{- $address := regexMatch "(?im)^[ \\t]*inference_address[ \\t]*[=:][ \\t]*https:" .Values.configProperties -}}
{{- if ternary .Values.settings.tls $address (hasKey .Values.settings "tls") -}}true{{- end -}}
{{- end -}}

{{- define "predictor.knative" -}}
{{- if and (eq .Values.mode "inferenceService") (eq .Values.inferenceService.deploymentMode "Knative") -}}true{{- end -}}
{{- end -}}

{{/* Seconds that accepted requests get: as asked for, but a runtime's pods always end after 30 s. */}}
{{- define "predictor.gracePeriod" -}}
{{- $drain := .Values.drain -}}
{{- if eq .Values.mode "servingRuntime" -}}
{{- $left := sub 28 (add $drain.preStopSeconds $drain.delaySeconds) -}}
{{- max 0 (min $left $drain.gracePeriodSeconds) -}}
{{- else -}}
{{- $drain.gracePeriodSeconds | int -}}
{{- end -}}
{{- end -}}

{{- define "predictor.drainSeconds" -}}
{{- add .Values.drain.preStopSeconds .Values.drain.delaySeconds .Values.drain.gracePeriodSeconds -}}
{{- end -}}

{{- define "predictor.terminationGracePeriod" -}}
{{- if kindIs "invalid" .Values.terminationGracePeriodSeconds -}}
{{- add (include "predictor.drainSeconds" .) 10 -}}
{{- else -}}
{{- .Values.terminationGracePeriodSeconds | int -}}
{{- end -}}
{{- end -}}

{{/* A setting's value as text: YAML's whole numbers must not become 6.5535e+06. */}}
{{- define "predictor.scalar" -}}
{{- if kindIs "string" . -}}{{ . }}{{- else -}}{{ toJson . }}{{- end -}}
{{- end -}}

{{/* What the ConfigMap holds, empty for nothing. */}}
{{- define "predictor.configuration" -}}
{{- range $name, $value := .Values.settings }}
PREDICTOR_{{ upper $name }}: {{ include "predictor.scalar" $value | quote }}
{{- end }}
{{- with .Values.configProperties }}
config.properties: |
{{ . | indent 2 }}
{{- end }}
{{- end -}}

{{- define "predictor.httpProbe" -}}
httpGet:
  path: {{ .path }}
  port: 8080
  {{- if .tls }}
  scheme: HTTPS
  {{- end }}
periodSeconds: {{ .probe.periodSeconds }}
timeoutSeconds: {{ .probe.timeoutSeconds }}
failureThreshold: {{ .probe.failureThreshold }}
{{- end -}}

{{/* Prometheus: requests that wait in all pods, but not in those of a release whose name only begins alike. */}}
{{- define "predictor.queueQuery" -}}
{{- $made := ternary "predictor-[-a-z0-9]+" "[a-z0-9]+-[a-z0-9]+" (eq .Values.mode "inferenceService") -}}
{{- $pods := printf "%s-%s" (include "predictor.fullname" .) $made -}}
sum(predictor_queue_depth{namespace="{{ .Release.Namespace }}", pod=~"{{ $pods }}"})
{{- end -}}
