{{/* The gateway's pod, the same behind a StatefulSet and a Deployment. */}}
{{- define "kanarie.gatewayPod" -}}
{{- $ctx := dict "root" . "component" "gateway" -}}
{{- $embedded := eq .Values.gateway.store.type "Embedded" -}}
metadata:
  labels:
    {{- include "kanarie.labels" $ctx | nindent 4 }}
    {{- with .Values.gateway.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "kanarie.name" $ctx }}
  automountServiceAccountToken: true
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .Values.gateway.shutdown.graceSeconds }}
  securityContext: {{- include "kanarie.podSecurity" . | nindent 4 }}
  {{- with include "kanarie.placement" $ctx }}
  {{- . | trim | nindent 2 }}
  {{- end }}
  {{- if not $embedded }}
  topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "kanarie.selector" $ctx | nindent 8 }}
  {{- end }}
  containers:
  - name: gateway
    image: {{ include "kanarie.image" $ctx | quote }}
    imagePullPolicy: {{ .Values.gateway.image.pullPolicy }}
    args:
    - --listen=[::]:8080
    - --admin-listen=[::]:9090
    - --idle-seconds={{ .Values.gateway.idleSeconds | int64 }}
    - --routes-namespace={{ include "kanarie.routesNamespace" . }}
    {{- if hasKey .Values.gateway "workers" }}
    - --workers={{ .Values.gateway.workers }}
    {{- else }}
    - --turns={{ .Values.gateway.turns | int64 }}
    {{- end }}
    - --channel-messages={{ .Values.gateway.channel.messages | int64 }}
    - --channel-bytes={{ .Values.gateway.channel.bytes }}
    - --channel-dead-letters={{ .Values.gateway.channel.deadLetters | int64 }}
    - --log-format={{ .Values.gateway.logFormat }}
    {{- if $embedded }}
    - --store=embedded:/data/queue
    {{- with include "kanarie.storeMemory" . }}
    - --store-memory={{ . }}
    {{- end }}
    {{- else }}
    - --store-durability={{ .Values.gateway.store.durability | lower }}
    {{- end }}
    {{- with .Values.gateway.agentAllow }}
    - --agent-allow={{ join "," . }}
    {{- end }}
    - --agent-private={{ .Values.gateway.agentPrivate | default (eq .Values.mode "Cluster" | ternary "Deny" "Allow") | lower }}
    {{- with .Values.gateway.twilioApiUrl }}
    - --twilio-api-url={{ . }}
    {{- end }}
    {{- if not $embedded }}
    env:
    - name: KANARIE_STORE
      valueFrom: {secretKeyRef: {name: {{ .Values.gateway.store.urlSecretRef.name }}, key: {{ .Values.gateway.store.urlSecretRef.key }}}}
    {{- end }}
    ports:
    - {name: http, containerPort: 8080}
    - {name: admin, containerPort: 9090}
    startupProbe: {httpGet: {path: /livez, port: admin}, periodSeconds: 1, failureThreshold: 60}
    livenessProbe: {httpGet: {path: /livez, port: admin}, periodSeconds: 10}
    readinessProbe: {httpGet: {path: /readyz, port: admin}, periodSeconds: 2, failureThreshold: 2}
    {{- with .Values.gateway.shutdown.endpointSeconds }}
    lifecycle: {preStop: {sleep: {seconds: {{ . }}}}}
    {{- end }}
    resources: {{- toYaml .Values.gateway.resources | nindent 6 }}
    securityContext: {{- include "kanarie.containerSecurity" . | nindent 6 }}
    {{- if $embedded }}
    volumeMounts:
    - {name: data, mountPath: /data}
    {{- end }}
{{- end -}}
