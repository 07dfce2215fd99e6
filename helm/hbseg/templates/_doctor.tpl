{{/* Image of the doctor: the runner's, else that of the steps, which has all that it needs; empty where
     there is none. Takes `cluster:`. */}}
{{- define "hbseg.doctorImage" -}}
{{- dig "steps" "runner" "image" "" . | default .control_image | default .image | default "" -}}
{{- end }}

{{/* Environment of the runner. Takes `cluster:`. The S3 keys are optional, so that the doctor starts
     without the Secret and says what is missing. */}}
{{- define "hbseg.runnerEnvironment" -}}
{{- $runner := dig "steps" "runner" dict . -}}
{{- $storage := dict "AWS_ENDPOINT_URL" .s3_endpoint "AWS_REGION" .s3_region "AWS_DEFAULT_REGION" .s3_region -}}
{{- $storage = merge $storage (dict "HBSEG_S3_ADDRESSING" .s3_addressing) -}}
{{- range list "AWS_REQUEST_CHECKSUM_CALCULATION" "AWS_RESPONSE_CHECKSUM_VALIDATION" -}}
{{- $_ := set $storage . $.s3_checksums -}}
{{- end -}}
{{- with .ca_bundle -}}
{{- $_ := set $storage "AWS_CA_BUNDLE" (printf "/etc/hbseg-ca/%s" (.key | default "ca.crt")) -}}
{{- end -}}
{{- $own := include "hbseg.overlaid" (dict "under" .environment "over" $runner.environment) | fromYaml -}}
{{- $variables := dict -}}
{{- range $name, $value := include "hbseg.overlaid" (dict "under" $storage "over" dict) | fromYaml -}}
{{- $_ := set $variables $name (dict "value" $value) -}}
{{- end -}}
{{- with .credentials_secret -}}
{{- range list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" "AWS_SESSION_TOKEN" -}}
{{- $from := dict "name" $.credentials_secret "key" . "optional" true -}}
{{- $_ := set $variables . (dict "valueFrom" (dict "secretKeyRef" $from)) -}}
{{- end -}}
{{- end -}}
{{- range $name, $key := $runner.secret_environment -}}
{{- if $key -}}
{{- $from := dict "name" $key.secret "key" $key.key -}}
{{- if $key.optional }}{{ $_ := set $from "optional" true }}{{ end -}}
{{- $_ := set $variables $name (dict "valueFrom" (dict "secretKeyRef" $from)) -}}
{{- end -}}
{{- end -}}
{{- range $name, $value := $own -}}
{{- $_ := set $variables $name (dict "value" ($value | replace "$(" "$$(")) -}}
{{- end -}}
{{- $list := list -}}
{{- range $name := keys $variables | sortAlpha -}}
{{- $list = append $list (merge (dict "name" $name) (get $variables $name)) -}}
{{- end -}}
{{- with $list }}{{ toYaml . }}{{ end -}}
{{- end }}

{{/* Two mappings laid over each other; null takes a key out. Takes under and over. */}}
{{- define "hbseg.overlaid" -}}
{{- $result := dict -}}
{{- range $layer := list .under .over -}}
{{- range $key, $value := $layer -}}
{{- $_ := set $result $key $value -}}
{{- end -}}
{{- end -}}
{{- range $key := keys $result -}}
{{- if kindIs "invalid" (get $result $key) }}{{ $_ := unset $result $key }}{{ end -}}
{{- end -}}
{{- toYaml $result -}}
{{- end }}

{{/* Where the content of a volume of the profile is: a claim, a ConfigMap or a Secret. */}}
{{- define "hbseg.volumeSource" -}}
{{- if .claim -}}
persistentVolumeClaim:
  claimName: {{ .claim }}
  readOnly: {{ ternary .read_only true (hasKey . "read_only") }}
{{- else if .secret -}}
secret:
  secretName: {{ .secret }}
{{- else -}}
configMap:
  name: {{ .config_map }}
{{- end }}
{{- end }}

{{/* Resources of the doctor; `limits` of the profile are for quotas that count them. */}}
{{- define "hbseg.doctorResources" -}}
{{- $cluster := include "hbseg.cluster" . | fromYaml -}}
{{- $resources := deepCopy (.Values.doctor.resources | default dict) -}}
{{- $told := include "hbseg.overlaid" (dict "under" $cluster.limits "over" (dig "steps" "runner" "limits" dict $cluster)) | fromYaml -}}
{{- $limits := $resources.limits | default dict -}}
{{- range $key, $name := dict "cpu" "cpu" "ephemeral_storage" "ephemeral-storage" -}}
{{- with get $told $key -}}
{{- $asked := get ($resources.requests | default dict) $name -}}
{{- $limits = merge $limits (dict $name (ternary $asked . (eq (toString .) "request"))) -}}
{{- end -}}
{{- end -}}
{{- toYaml (set $resources "limits" $limits) -}}
{{- end }}
