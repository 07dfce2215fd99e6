{{/* An image with the global registry in front, where it names no registry itself. Takes registry
     and image. */}}
{{- define "hbseg.image" -}}
{{- $first := splitList "/" .image | first -}}
{{- $named := and (contains "/" .image) (or (regexMatch "[.:]" $first) (eq $first "localhost")) -}}
{{- if and .registry (not $named) -}}{{ trimSuffix "/" .registry }}/{{ end }}{{ .image }}
{{- end }}

{{/* A part of the profile, its images with the global registry. Takes registry and values. */}}
{{- define "hbseg.images" -}}
{{- $values := deepCopy .values -}}
{{- range $key := list "image" "control_image" "tensorrt_image" -}}
{{- with get $values $key -}}
{{- $_ := set $values $key (include "hbseg.image" (dict "registry" $.registry "image" .)) -}}
{{- end -}}
{{- end -}}
{{- toYaml $values -}}
{{- end }}

{{/* Names of the Secrets for pulling images: those of `global`, then those of the profile. */}}
{{- define "hbseg.pullSecrets" -}}
{{- $names := list -}}
{{- range (.Values.global).imagePullSecrets -}}
{{- if kindIs "map" . }}{{ $names = append $names .name }}{{ else }}{{ $names = append $names . }}{{ end -}}
{{- end -}}
{{- toYaml (concat $names ((.Values.profile).image_pull_secrets | default list) | uniq) -}}
{{- end }}

{{/* What the chart's other values say of the profile: its keys in `cluster:`. */}}
{{- define "hbseg.implied" -}}
{{- $values := dict "runner_service_account" (include "hbseg.runnerAccount" .) -}}
{{- with include "hbseg.stepsAccount" . -}}
{{- $_ := set $values "service_account" . -}}
{{- end -}}
{{- with .Values.credentials.existingSecret -}}
{{- $_ := set $values "credentials_secret" . -}}
{{- end -}}
{{- if .Values.localQueue.create -}}
{{- $_ := set $values "queue" (include "hbseg.localQueue" .) -}}
{{- end -}}
{{- toYaml $values -}}
{{- end }}

{{/* `cluster:` of the ConfigMap. */}}
{{- define "hbseg.cluster" -}}
{{- $registry := (.Values.global).imageRegistry | default "" -}}
{{- $cluster := include "hbseg.images" (dict "registry" $registry "values" (.Values.profile | default dict)) | fromYaml -}}
{{- range $name, $values := $cluster.steps -}}
{{- $_ := set $cluster.steps $name (include "hbseg.images" (dict "registry" $registry "values" $values) | fromYaml) -}}
{{- end -}}
{{- with include "hbseg.pullSecrets" . | fromYamlArray -}}
{{- $_ := set $cluster "image_pull_secrets" . -}}
{{- end -}}
{{- if .Values.cache.enabled -}}
{{- $volume := dict "claim" (include "hbseg.cacheClaim" .) "path" .Values.cache.path "read_only" false -}}
{{- $_ := set $cluster "volumes" (append ($cluster.volumes | default list) $volume) -}}
{{- /* A list under `steps` replaces that of all pods; the runner has no volumes of the steps. */ -}}
{{- range $name, $values := $cluster.steps -}}
{{- if and (hasKey $values "volumes") (ne $name "runner") -}}
{{- $_ := set $values "volumes" (append $values.volumes $volume) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $key, $value := include "hbseg.implied" . | fromYaml -}}
{{- $_ := set $cluster $key $value -}}
{{- end -}}
{{- toYaml $cluster -}}
{{- end }}

{{/* The document that hbseg reads, as `hbseg.yaml` of a working folder. */}}
{{- define "hbseg.settings" -}}
apiVersion: hbseg/v1
kind: Settings
{{- with .Values.data }}
data: {{ toYaml . }}
{{- end }}
{{- with .Values.runs }}
runs: {{ toYaml . }}
{{- end }}
cluster:
  {{- include "hbseg.cluster" . | nindent 2 }}
{{- end }}
