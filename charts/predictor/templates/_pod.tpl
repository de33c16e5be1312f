{{/* The parts of a pod that all three modes share. */}}

{{- define "predictor.environment" -}}
{{- $environment := list
    (dict "name" "PREDICTOR_DRAIN_DELAY" "value" (include "predictor.scalar" .Values.drain.delaySeconds))
    (dict "name" "PREDICTOR_GRACE_PERIOD" "value" (include "predictor.gracePeriod" .)) -}}
{{- /* Otherwise it is 8081 by itself, or 9000 where TorchServe's management API has that: no reason not to start. */ -}}
{{- if or (not .Values.grpc.enabled) (include "predictor.knative" .) -}}
{{- $environment = append $environment (dict "name" "PREDICTOR_GRPC_PORT" "value" "0") -}}
{{- end -}}
{{- if and (not .Values.gpu.enabled) (not (hasKey .Values.settings "device")) -}}
{{- $environment = append $environment (dict "name" "PREDICTOR_DEVICE" "value" "cpu") -}}
{{- end -}}
{{- with .Values.model.name -}}
{{- $environment = append $environment (dict "name" "PREDICTOR_MODEL_NAME" "value" .) -}}
{{- end -}}
{{- if .Values.configProperties -}}
{{- $environment = append $environment (dict "name" "TS_CONFIG_FILE" "value" "/etc/predictor/config.properties") -}}
{{- end -}}
{{- if include "predictor.tokenSecret" . -}}
{{- $environment = append $environment (dict "name" "PREDICTOR_TOKEN_FILE" "value" "/etc/predictor-token/token") -}}
{{- end -}}
{{- if and (eq .Values.mode "inferenceService") (eq (include "predictor.source" .) "storageUri") -}}
{{- $environment = append $environment (dict "name" "STORAGE_URI" "value" .Values.model.storageUri) -}}
{{- end -}}
{{- /* A ClusterServingRuntime cannot refer to a ConfigMap: its pods are in other namespaces. */ -}}
{{- if eq .Values.mode "servingRuntime" -}}
{{- range $name, $value := .Values.settings -}}
{{- $environment = append $environment (dict "name" (printf "PREDICTOR_%s" (upper $name)) "value" (include "predictor.scalar" $value)) -}}
{{- end -}}
{{- end -}}
{{- $given := list -}}
{{- range .Values.extraEnv -}}
{{- $given = append $given .name -}}
{{- end -}}
{{- $kept := list -}}
{{- range $environment -}}
{{- if not (has .name $given) -}}
{{- $kept = append $kept . -}}
{{- end -}}
{{- end -}}
{{- toYaml (concat $kept .Values.extraEnv) -}}
{{- end -}}

{{- define "predictor.environmentFrom" -}}
{{- $sources := list -}}
{{- if and .Values.settings (ne .Values.mode "servingRuntime") -}}
{{- $sources = append $sources (dict "configMapRef" (dict "name" (printf "%s-settings" (include "predictor.fullname" .)))) -}}
{{- end -}}
{{- $sources = concat $sources .Values.extraEnvFrom -}}
{{- if $sources -}}
{{- toYaml $sources -}}
{{- end -}}
{{- end -}}

{{- define "predictor.arguments" -}}
{{- $arguments := list -}}
{{- $flags := or (not .Values.args) (hasPrefix "-" (first (append .Values.args ""))) -}}
{{- if and .Values.configProperties $flags -}}
{{- $arguments = append $arguments "--config=/etc/predictor/config.properties" -}}
{{- end -}}
{{- if and (eq .Values.mode "servingRuntime") $flags -}}
{{- /* KServe fills in the InferenceService's name. */ -}}
{{- $arguments = append $arguments "--model-name={{.Name}}" -}}
{{- end -}}
{{- $arguments = concat $arguments .Values.args -}}
{{- if $arguments -}}
{{- toYaml $arguments -}}
{{- end -}}
{{- end -}}

{{/* Quantities as text, which is what every schema takes. */}}
{{- define "predictor.quantities" -}}
{{- $quantities := dict -}}
{{- range $name, $amount := . -}}
{{- $_ := set $quantities $name (include "predictor.scalar" $amount) -}}
{{- end -}}
{{- toYaml $quantities -}}
{{- end -}}

{{- define "predictor.resources" -}}
{{- $limits := deepCopy (default dict .Values.resources.limits) -}}
{{- $requests := deepCopy (default dict .Values.resources.requests) -}}
{{- if .Values.gpu.enabled -}}
{{- $_ := set $limits .Values.gpu.resource .Values.gpu.count -}}
{{- $_ := set $requests .Values.gpu.resource .Values.gpu.count -}}
{{- end -}}
{{- with $requests }}
requests:
  {{- include "predictor.quantities" . | nindent 2 }}
{{- end }}
{{- with $limits }}
limits:
  {{- include "predictor.quantities" . | nindent 2 }}
{{- end }}
{{- with .Values.resources.claims }}
claims:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "predictor.volumeMounts" -}}
- name: tmp
  mountPath: /tmp
{{- if .Values.shm.sizeLimit }}
- name: shm
  mountPath: /dev/shm
{{- end }}
{{- if .Values.configProperties }}
- name: configuration
  mountPath: /etc/predictor
  readOnly: true
{{- end }}
{{- if include "predictor.tokenSecret" . }}
- name: token
  mountPath: /etc/predictor-token
  readOnly: true
{{- end }}
{{- if eq (include "predictor.source" .) "claim" }}
- name: models
  mountPath: /mnt/models
  readOnly: true
  {{- with include "predictor.claimPath" . }}
  subPath: {{ . }}
  {{- end }}
{{- else if and (eq (include "predictor.source" .) "storageUri") (eq .Values.mode "deployment") }}
- name: models
  mountPath: /mnt/models
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "predictor.volumes" -}}
- name: tmp
  {{- if .Values.tmp.sizeLimit }}
  emptyDir:
    sizeLimit: {{ .Values.tmp.sizeLimit }}
  {{- else }}
  emptyDir: {}
  {{- end }}
{{- if .Values.shm.sizeLimit }}
- name: shm
  emptyDir:
    medium: Memory
    sizeLimit: {{ .Values.shm.sizeLimit }}
{{- end }}
{{- if .Values.configProperties }}
- name: configuration
  configMap:
    name: {{ include "predictor.fullname" . }}-configuration
{{- end }}
{{- if include "predictor.tokenSecret" . }}
- name: token
  secret:
    secretName: {{ include "predictor.tokenSecret" . }}
    items:
      - key: {{ .Values.token.key }}
        path: token
{{- end }}
{{- if eq (include "predictor.source" .) "claim" }}
- name: models
  persistentVolumeClaim:
    claimName: {{ include "predictor.claimName" . }}
    readOnly: true
{{- else if and (eq (include "predictor.source" .) "storageUri") (eq .Values.mode "deployment") }}
- name: models
  emptyDir: {}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* A runtime has no fields of the pod: what they would say is said of its container. */}}
{{- define "predictor.securityContext" -}}
{{- $security := deepCopy (default dict .Values.securityContext) -}}
{{- if eq .Values.mode "servingRuntime" -}}
{{- $fields := list "runAsNonRoot" "runAsUser" "runAsGroup" "seccompProfile" "appArmorProfile" "seLinuxOptions" "windowsOptions" -}}
{{- range $name, $value := .Values.podSecurityContext -}}
{{- if and (has $name $fields) (not (hasKey $security $name)) -}}
{{- $_ := set $security $name $value -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with $security -}}
{{- toYaml . -}}
{{- end -}}
{{- end -}}

{{- define "predictor.container" -}}
name: kserve-container
image: {{ include "predictor.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- with include "predictor.arguments" . }}
args:
  {{- . | nindent 2 }}
{{- end }}
{{- /* None for a runtime: KServe means 8080 then, an InferenceService adds h2c, and Knative allows one. */}}
{{- if ne .Values.mode "servingRuntime" }}
ports:
  - name: http1
    containerPort: 8080
    protocol: TCP
  {{- if and .Values.grpc.enabled (not (include "predictor.knative" .)) }}
  - name: h2c
    containerPort: 8081
    protocol: TCP
  {{- end }}
{{- end }}
env:
  {{- include "predictor.environment" . | nindent 2 }}
{{- with include "predictor.environmentFrom" . }}
envFrom:
  {{- . | nindent 2 }}
{{- end }}
{{- with include "predictor.resources" . | trim }}
resources:
  {{- . | nindent 2 }}
{{- end }}
startupProbe:
  {{- include "predictor.httpProbe" (dict "path" "/v2/health/ready" "probe" .Values.probes.startup "tls" (include "predictor.tls" .)) | nindent 2 }}
readinessProbe:
  {{- include "predictor.httpProbe" (dict "path" "/v2/health/ready" "probe" .Values.probes.readiness "tls" (include "predictor.tls" .)) | nindent 2 }}
livenessProbe:
  {{- include "predictor.httpProbe" (dict "path" "/v2/health/live" "probe" .Values.probes.liveness "tls" (include "predictor.tls" .)) | nindent 2 }}
{{- if and .Values.drain.preStopSeconds (not (include "predictor.knative" .)) }}
lifecycle:
  preStop:
    exec:
      command: [sleep, {{ .Values.drain.preStopSeconds | quote }}]
{{- end }}
{{- with include "predictor.securityContext" . }}
securityContext:
  {{- . | nindent 2 }}
{{- end }}
volumeMounts:
  {{- include "predictor.volumeMounts" . | nindent 2 }}
{{- end -}}

{{/* Fields of the pod that the runtime's specification has too. */}}
{{- define "predictor.placement" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- $tolerations := .Values.tolerations }}
{{- if and .Values.gpu.enabled .Values.gpu.toleration }}
{{- $tolerations = append $tolerations (dict "key" .Values.gpu.resource "operator" "Exists" "effect" "NoSchedule") }}
{{- end }}
{{- with $tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Those that only a pod's own specification has. */}}
{{- define "predictor.podFields" -}}
serviceAccountName: {{ include "predictor.serviceAccountName" . }}
automountServiceAccountToken: {{ .Values.serviceAccount.automount }}
{{- if not (include "predictor.knative" .) }}
terminationGracePeriodSeconds: {{ include "predictor.terminationGracePeriod" . }}
{{- end }}
{{- with .Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- if .Values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- range .Values.topologySpreadConstraints }}
  {{- $constraint := deepCopy . }}
  {{- if not $constraint.labelSelector }}
  {{- $_ := set $constraint "labelSelector" (dict "matchLabels" (include "predictor.podSelector" $ | fromYaml)) }}
  {{- end }}
  - {{ toYaml $constraint | nindent 4 | trim }}
  {{- end }}
{{- end }}
{{- end -}}
