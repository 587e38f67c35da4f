{{- define "kanarie.guards" -}}
{{- $cluster := eq .Values.mode "Cluster" -}}
{{- if and (not $cluster) (empty .Values.watchNamespaces) -}}
{{- fail "Say which channels to serve: set watchNamespaces (a list of namespaces), or mode=Cluster for all of them." -}}
{{- end -}}
{{- if and $cluster .Values.watchNamespaces -}}
{{- fail "mode=Cluster serves every namespace: leave watchNamespaces empty, or set mode=Namespaced." -}}
{{- end -}}
{{- if has (include "kanarie.routesNamespace" .) .Values.watchNamespaces -}}
{{- fail "watchNamespaces must not name the routes namespace: it holds the gateways' routes and no channels." -}}
{{- end -}}
{{- if and (eq .Values.gateway.store.type "Redis") (empty .Values.gateway.store.urlSecretRef.name) -}}
{{- fail "gateway.store.type=Redis needs gateway.store.urlSecretRef.name: a Secret in the release namespace with the Redis URL." -}}
{{- end -}}
{{- if gt (int .Values.gateway.autoscaling.minReplicas) (int .Values.gateway.autoscaling.maxReplicas) -}}
{{- fail "gateway.autoscaling.minReplicas must not be over maxReplicas." -}}
{{- end -}}
{{- if le (int .Values.gateway.shutdown.graceSeconds) (int .Values.gateway.shutdown.endpointSeconds) -}}
{{- fail "gateway.shutdown.graceSeconds must be over endpointSeconds, so that the gateway can finish what it took." -}}
{{- end -}}
{{- end -}}
