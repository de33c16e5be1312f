{{/* What no schema can say: values that contradict each other stop the rendering. */}}
{{- define "predictor.validate" -}}
{{- $values := .Values -}}
{{- if not (regexMatch "^[a-z]" (include "predictor.fullname" .)) -}}
{{- fail (printf "%s: the name of a Service begins with a letter; give the release another name, or set fullnameOverride" (include "predictor.fullname" .)) -}}
{{- end -}}
{{- if and $values.model.storageUri $values.model.pvc.claimName -}}
{{- fail "model.storageUri and model.pvc.claimName are two places for the models: set one" -}}
{{- end -}}
{{- if and $values.token.value $values.token.existingSecret -}}
{{- fail "token.value and token.existingSecret are two places for the token: set one" -}}
{{- end -}}
{{- if and $values.autoscaling.enabled (gt (int $values.autoscaling.minReplicas) (int $values.autoscaling.maxReplicas)) -}}
{{- fail "autoscaling.minReplicas is above autoscaling.maxReplicas" -}}
{{- end -}}
{{- if and $values.autoscaling.enabled (eq (int $values.autoscaling.minReplicas) 0) (eq $values.autoscaling.engine "hpa") (not (include "predictor.knative" .)) -}}
{{- fail "an HPA keeps one pod at least: set autoscaling.minReplicas to 1, or use KEDA or Knative" -}}
{{- end -}}
{{- if and $values.autoscaling.enabled (not $values.autoscaling.queueDepth) (not $values.autoscaling.cpuPercent) -}}
{{- fail "autoscaling needs queueDepth or cpuPercent" -}}
{{- end -}}
{{- if and (eq (int $values.strategy.maxSurge) 0) (eq (toString $values.strategy.maxSurge) "0") (eq (toString $values.strategy.maxUnavailable) "0") -}}
{{- fail "strategy.maxSurge and strategy.maxUnavailable cannot both be 0: no pod could be replaced" -}}
{{- end -}}
{{- if not (kindIs "invalid" $values.terminationGracePeriodSeconds) -}}
{{- $needed := int (include "predictor.drainSeconds" .) -}}
{{- if lt (int $values.terminationGracePeriodSeconds) $needed -}}
{{- fail (printf "terminationGracePeriodSeconds (%d) cuts the drain short: preStopSeconds + delaySeconds + gracePeriodSeconds are %d" (int $values.terminationGracePeriodSeconds) $needed) -}}
{{- end -}}
{{- end -}}
{{- if and $values.grpc.enabled (not (include "predictor.knative" .)) -}}
{{- range $name := list "management_address" "metrics_address" -}}
{{- $asked := regexFind (printf "(?m)^[ \\t]*%s[ \\t]*[=:].*$" $name) $values.configProperties -}}
{{- if regexMatch ":8081/?[ \\t\\r]*$" (dig $name $asked $values.settings) -}}
{{- fail (printf "%s takes port 8081, where gRPC is: name another port there, or set grpc.enabled=false" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and (eq $values.inferenceService.deploymentMode "Standard") (not (kindIs "invalid" $values.inferenceService.canaryTrafficPercent)) -}}
{{- fail "inferenceService.canaryTrafficPercent has no effect in Standard mode: use inferenceService.deploymentMode=Knative" -}}
{{- end -}}
{{- if eq $values.mode "servingRuntime" -}}
{{- include "predictor.validateRuntime" . -}}
{{- end -}}
{{- if and (include "predictor.knative" .) $values.autoscaling.enabled (eq $values.autoscaling.engine "keda") -}}
{{- fail "KEDA scales deployments; with inferenceService.deploymentMode=Knative use autoscaling.engine=hpa, which means Knative's own there" -}}
{{- end -}}
{{- if and (eq $values.mode "inferenceService") $values.monitoring.serviceMonitor.enabled -}}
{{- fail "monitoring.serviceMonitor is for mode deployment; KServe's pods need monitoring.podMonitor" -}}
{{- end -}}
{{- if and (eq $values.mode "inferenceService") $values.autoscaling.enabled (eq $values.autoscaling.engine "hpa") (not $values.autoscaling.cpuPercent) (not (include "predictor.knative" .)) -}}
{{- fail "in mode inferenceService the HPA is KServe's, which knows no queue: set autoscaling.cpuPercent, or autoscaling.engine=keda" -}}
{{- end -}}
{{- end -}}

{{/* A runtime says how pods are made, not which, how many or with what data: that is the InferenceService's. */}}
{{- define "predictor.validateRuntime" -}}
{{- $values := .Values -}}
{{- $foreign := dict
    "autoscaling.enabled" $values.autoscaling.enabled
    "networkPolicy.enabled" $values.networkPolicy.enabled
    "podDisruptionBudget.enabled" $values.podDisruptionBudget.enabled
    "monitoring.serviceMonitor.enabled" $values.monitoring.serviceMonitor.enabled
    "monitoring.podMonitor.enabled" $values.monitoring.podMonitor.enabled
    "model.storageUri" $values.model.storageUri
    "model.pvc.claimName" $values.model.pvc.claimName
    "model.name" $values.model.name
    "topologySpreadConstraints" $values.topologySpreadConstraints
    "priorityClassName" $values.priorityClassName
    "runtimeClassName" $values.runtimeClassName
    "extraInitContainers" $values.extraInitContainers -}}
{{- range $name, $value := $foreign -}}
{{- if $value -}}
{{- fail (printf "%s belongs to the InferenceService that uses the runtime, not to the runtime" $name) -}}
{{- end -}}
{{- end -}}
{{- if gt (int (add $values.drain.preStopSeconds $values.drain.delaySeconds)) 25 -}}
{{- fail "the pods of a serving runtime have 30 s to end: drain.preStopSeconds + drain.delaySeconds must be at most 25" -}}
{{- end -}}
{{- if $values.servingRuntime.clusterScoped -}}
{{- range $name, $value := dict "configProperties" $values.configProperties "token.value" $values.token.value "token.existingSecret" $values.token.existingSecret -}}
{{- if $value -}}
{{- fail (printf "%s lives in one namespace, and a ClusterServingRuntime serves all: use servingRuntime.clusterScoped=false" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
