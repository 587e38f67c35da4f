{{- define "kanarie.routesNamespace" -}}
{{ .Release.Namespace }}-routes
{{- end -}}

{{/* Labels of every object. Context: dict "root" $ "component" "gateway" */}}
{{- define "kanarie.labels" -}}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: kanarie
{{ include "kanarie.selector" . }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "kanarie.selector" -}}
app.kubernetes.io/name: kanarie-{{ .component }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "kanarie.name" -}}
{{ .root.Release.Name | trunc 40 | trimSuffix "-" }}-{{ .component }}
{{- end -}}

{{- define "kanarie.image" -}}
{{- $image := index .root.Values .component "image" -}}
{{- with .root.Values.imageRegistry }}{{ trimSuffix "/" . }}/{{ end }}{{ $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default .root.Chart.AppVersion }}{{ end -}}
{{- end -}}

{{- define "kanarie.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "kanarie.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Memory of the embedded store: what is set, else half of the container's limit in bytes; the other half
     is for what runs. Nothing without either: then the gateway's own default holds. */}}
{{- define "kanarie.storeMemory" -}}
{{- $limit := dig "limits" "memory" "" (.Values.gateway.resources | default dict) -}}
{{- if kindIs "float64" $limit }}{{ $limit = int64 $limit }}{{ end -}}
{{- $limit = toString $limit -}}
{{- $units := dict "k" 1000 "M" 1000000 "G" 1000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 -}}
{{- $unit := regexFind "[A-Za-z]+$" $limit -}}
{{- if .Values.gateway.store.memory -}}
{{ .Values.gateway.store.memory }}
{{- else if and (regexMatch "^[0-9]+([.][0-9]+)?[A-Za-z]*$" $limit) (or (not $unit) (hasKey $units $unit)) -}}
{{ divf (mulf (float64 (trimSuffix $unit $limit)) (get $units $unit | default 1)) 2 | int64 }}
{{- end -}}
{{- end -}}

{{/* Where and how a pod runs. */}}
{{- define "kanarie.placement" -}}
{{- $values := index .root.Values .component -}}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Rights of the operator on the channels of a namespace. Each verb has its one reason. */}}
{{- define "kanarie.operatorRules" -}}
# The channels themselves are only read: the operator never writes a spec.
- apiGroups: [kanarie.dev]
  resources: [whatsappchannels]
  verbs: [get, list, watch]
- apiGroups: [kanarie.dev]
  resources: [whatsappchannels/status]
  verbs: [patch]
# Clusters that check owner references want this for the revisions.
- apiGroups: [kanarie.dev]
  resources: [whatsappchannels/finalizers]
  verbs: [update]
# Revisions.
- apiGroups: [apps]
  resources: [controllerrevisions]
  verbs: [get, list, create, patch, delete]
# The Secrets that channels name are read; the watch asks for metadata only, which RBAC cannot
# tell from reading them all.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end -}}
