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

{{/* Labels of an object: the chart's own, then those of the object, then the common ones. Takes root,
     and perhaps component and labels. */}}
{{- define "hbseg.labels" -}}
{{- $own := include "hbseg.partOf" . | fromYaml -}}
{{- $own = merge $own (dict "app.kubernetes.io/name" "hbseg" "app.kubernetes.io/instance" .root.Release.Name) -}}
{{- $own = merge $own (dict "app.kubernetes.io/version" .root.Chart.AppVersion) -}}
{{- $own = merge $own (dict "app.kubernetes.io/managed-by" .root.Release.Service) -}}
{{- $chart := printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" -}}
{{- $own = merge $own (dict "helm.sh/chart" $chart) -}}
{{- with .component -}}
{{- $own = merge $own (dict "app.kubernetes.io/component" .) -}}
{{- end -}}
{{- toYaml (merge $own (.labels | default dict) (.root.Values.commonLabels | default dict)) -}}
{{- end }}

{{/* Metadata of an object. Takes root, name, and perhaps component, labels and annotations. */}}
{{- define "hbseg.metadata" -}}
{{- $annotations := merge dict (.annotations | default dict) (.root.Values.commonAnnotations | default dict) -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "hbseg.labels" . | nindent 2 }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
