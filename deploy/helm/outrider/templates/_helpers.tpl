{{- define "outrider.labels" -}}
app.kubernetes.io/name: outrider
app.kubernetes.io/component: injector
{{- end -}}

{{- define "outrider.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- define "outrider.secret" -}}
{{ .Values.certificate.secret | default "outrider-webhook-tls" }}
{{- end -}}

{{- define "outrider.host" -}}
outrider-injector.{{ .Release.Namespace }}.svc
{{- end -}}

{{/* Certificate, key and authority that Helm makes: those of the last release where there are any. */}}
{{- define "outrider.made" -}}
{{- $there := lookup "v1" "Secret" .Release.Namespace (include "outrider.secret" .) -}}
{{- if and $there $there.data (index $there.data "ca.crt") -}}
{{ dict "crt" (index $there.data "tls.crt") "key" (index $there.data "tls.key") "ca" (index $there.data "ca.crt") | toJson }}
{{- else -}}
{{- $host := include "outrider.host" . -}}
{{- $ca := genCA "outrider webhook" 3650 -}}
{{- $leaf := genSignedCert $host nil (list $host) 3650 $ca -}}
{{ dict "crt" (b64enc $leaf.Cert) "key" (b64enc $leaf.Key) "ca" (b64enc $ca.Cert) | toJson }}
{{- end -}}
{{- end -}}

{{- define "outrider.namespaces" -}}
matchExpressions:
- { key: outrider.dev/inject, operator: In, values: [enabled] }
- { key: kubernetes.io/metadata.name, operator: NotIn, values: [kube-system, {{ .Release.Namespace }}] }
{{- end -}}
