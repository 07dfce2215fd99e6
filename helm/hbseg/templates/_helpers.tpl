{{/* Base of the names of all objects. It has no release name: a namespace takes one release. */}}
{{- define "hbseg.name" -}}
{{- .Values.nameOverride | default "hbseg" -}}
{{- end }}

{{/* Name of the steps' service account; empty where pods use the namespace's own. */}}
{{- define "hbseg.stepsAccount" -}}
{{- $default := ternary (printf "%s-steps" (include "hbseg.name" .)) "" .Values.serviceAccounts.steps.create -}}
{{- .Values.serviceAccounts.steps.name | default $default -}}
{{- end }}

{{- define "hbseg.runnerAccount" -}}
{{- .Values.serviceAccounts.runner.name | default (printf "%s-runner" (include "hbseg.name" .)) -}}
{{- end }}

{{- define "hbseg.localQueue" -}}
{{- .Values.localQueue.name | default (include "hbseg.name" .) -}}
{{- end }}

{{- define "hbseg.cacheClaim" -}}
{{- printf "%s-cache" (include "hbseg.name" .) -}}
{{- end }}

{{/* Labels that policies select pods by. They never change with a version. */}}
{{- define "hbseg.partOf" -}}
app.kubernetes.io/part-of: hbseg
{{- end }}

{{/* Selector of the pods of trainings, which talk to each other. */}}
{{- define "hbseg.trainings" -}}
matchLabels:
  {{- include "hbseg.partOf" . | nindent 2 }}
matchExpressions:
  - key: hbseg.io/step
    operator: In
    values: [stage1, stage2]
{{- end }}

{{- define "hbseg.labels" -}}
app.kubernetes.io/name: hbseg
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "hbseg.partOf" . }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Metadata of an object. Takes root, name, and perhaps component, labels and annotations. */}}
{{- define "hbseg.metadata" -}}
{{- $annotations := merge dict (.annotations | default dict) .root.Values.commonAnnotations -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "hbseg.labels" .root | nindent 2 }}
  {{- with .component }}
  app.kubernetes.io/component: {{ . }}
  {{- end }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
