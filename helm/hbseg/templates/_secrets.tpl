{{/* Whether a variable is likely to hold a secret, by the rules of hbseg/config/secrets.py: "true", or
     nothing. Takes name and value. A test compares the two. */}}
{{- define "hbseg.isSecret" -}}
{{- $keys := list `\b(AKIA|ASIA)[A-Z0-9]{16}\b` `\bgh[opsur]_[A-Za-z0-9]{36}` `\bgithub_pat_\w{22}` -}}
{{- $keys = concat $keys (list `\bglpat-[\w-]{20}` `\bhf_[A-Za-z0-9]{30}` `\bsk-(\w+-){0,3}\w{16}`) -}}
{{- $keys = concat $keys (list `\bsk_live_\w{16}` `\bxox[abprs]-[\w-]{10}` `\bAIza[\w-]{35}`) -}}
{{- $keys = concat $keys (list `\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.` `://[^/\s:@]*:[^/\s@]+@`) -}}
{{- $keys = concat $keys (list `\bhttps?://[^/\s@]+@` `-----BEGIN`) -}}
{{- if or (regexMatch (join "|" $keys) .value) (include "hbseg.isNameOfSecret" .) }}true{{ end }}
{{- end }}

{{/* Whether the name is a secret's, and the value no path, switch or number. Takes name and value. */}}
{{- define "hbseg.isNameOfSecret" -}}
{{- $always := list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" "AWS_SESSION_TOKEN" -}}
{{- $words := regexReplaceAll `[^A-Za-z]+$` .name "" -}}
{{- $words = regexReplaceAll `([A-Z]+)([A-Z][a-z])` $words `${1}_${2}` -}}
{{- $words = regexReplaceAll `([a-z])([A-Z])` $words `${1}_${2}` -}}
{{- $words = regexFindAll `[A-Za-z]+|[0-9]+` $words -1 -}}
{{- $last := last (prepend $words "") -}}
{{- $named := regexMatch `(?i)^((api|access|auth|private|secret|ssh|signing|encryption)?keys?|pass|pat|pwd|auth|creds?|jwt)$` $last -}}
{{- range $words -}}
{{- if regexMatch `(?i)secret|password|passwd|passphrase|credential|tokens?$` . }}{{ $named = true }}{{ end -}}
{{- end -}}
{{- if regexMatch `(?i)^(file|path|dir|url|uri|name)$` $last }}{{ $named = false }}{{ end -}}
{{- $switch := regexMatch `(?i)^(0|1|true|false|yes|no|on|off|none|null)?$` .value -}}
{{- $number := regexMatch `^[-+]?\d+(\.\d+)?([eE][-+]?\d+)?$` .value -}}
{{- $password := regexMatch `(?i)(password|passwd|passphrase)$|^pwd$` $last -}}
{{- $path := regexMatch `^(file://|s3:/|~|\.{1,2})?(/[\w.@:-]+)+/?$` .value -}}
{{- $plain := or $switch $path (and $number (not $password)) -}}
{{- if or (has .name $always) (and $named (not $plain)) }}true{{ end }}
{{- end }}

{{/* Names of the variables below a node that look like secrets, a line each, and the keys above texts
     in the form of a secret. Takes key and node. */}}
{{- define "hbseg.secretsIn" -}}
{{- if kindIs "string" .node -}}
{{- if include "hbseg.isSecret" (dict "name" "" "value" .node) }}{{ println .key }}{{ end -}}
{{- else if kindIs "slice" .node -}}
{{- range .node }}{{ include "hbseg.secretsIn" (dict "key" $.key "node" .) }}{{ end -}}
{{- else if kindIs "map" .node -}}
{{- if and (kindIs "string" .node.name) (kindIs "string" .node.value) -}}
{{- if include "hbseg.isSecret" .node }}{{ println .node.name }}{{ end -}}
{{- end -}}
{{- range $key, $node := .node }}{{ include "hbseg.secretsIn" (dict "key" $key "node" $node) }}{{ end -}}
{{- end -}}
{{- end }}

{{/* Refuses secrets in a part of the profile. Takes its place, e.g. `profile.steps.training`, and its
     values. */}}
{{- define "hbseg.refuseSecrets" -}}
{{- $next := "and the ConfigMap hbseg-profile shows it: put it into a Secret, and set" -}}
{{- range $name, $value := .values.environment -}}
{{- if and (kindIs "string" $value) (include "hbseg.isSecret" (dict "name" $name "value" $value)) -}}
{{- fail (printf "%s.environment.%s looks like a secret, %s %s.secret_environment: {%s: {secret: S, key: K}}" $.place $name $next $.place $name) -}}
{{- end -}}
{{- end -}}
{{- range include "hbseg.secretsIn" (dict "key" "pod_overrides" "node" .values.pod_overrides) | trim | splitList "\n" | compact -}}
{{- fail (printf "%s.pod_overrides: %s looks like a secret, %s %s.secret_environment: {NAME: {secret: S, key: K}}" $.place . $next $.place) -}}
{{- end -}}
{{- end }}
