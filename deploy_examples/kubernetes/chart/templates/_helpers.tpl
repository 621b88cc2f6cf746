{{- define "triton.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "triton.labels" -}}
{{ include "triton.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "triton.probe" -}}
exec:
  command:
    - python3
    - /opt/probe/probe.py
    - {{ .Values.probe.model }}
    {{- range .Values.probe.shapes }}
    - --shape
    - {{ . | quote }}
    {{- end }}
{{- end }}
