{{- define "shapes.config" -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .root.Release.Name }}-{{ .name }}
  labels: {team: {{ .root.Values.global.team }}}
data: {{- toYaml .data | nindent 2 }}
{{- end }}
