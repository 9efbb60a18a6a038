{{- define "berth.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "berth.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "berth.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "berth.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "berth.selector" -}}
app.kubernetes.io/name: {{ include "berth.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: registry
{{- end -}}

{{- define "berth.labels" -}}
{{ include "berth.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "berth.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "berth.serviceAccount" -}}
{{- .Values.serviceAccount.existing | default (include "berth.fullname" .) -}}
{{- end -}}


{{/* What values.schema.json cannot say: which settings need each other. */}}
{{- define "berth.check" -}}
{{- $v := .Values -}}
{{- if eq $v.mode "replicated" -}}
{{- if not $v.database.existingSecret -}}
{{- fail "mode replicated: database.existingSecret is not set; make a secret with the address of PostgreSQL: kubectl create secret generic berth-database --from-literal=url=postgres://…" -}}
{{- end -}}
{{- if not $v.admin.existingSecret -}}
{{- fail "mode replicated: admin.existingSecret is not set; pods have no disk to keep a first password on: kubectl create secret generic berth-admin --from-literal=password=…" -}}
{{- end -}}
{{- if and (eq $v.storage.driver "filesystem") (not $v.storage.existingClaim) -}}
{{- fail "mode replicated with storage.driver filesystem: storage.existingClaim is not set; name a ReadWriteMany claim, or use storage.driver s3" -}}
{{- end -}}
{{- $plain := dig "http" "allowplain" false $v.config -}}
{{- if not (or $v.tls.existingSecret $v.trustedProxies $plain) -}}
{{- fail "mode replicated: neither tls.existingSecret nor trustedProxies is set; each pod would make an authority of its own. Give the pods a certificate, or name the networks of the ingress controller's pods" -}}
{{- end -}}
{{- end -}}
{{- if and (eq $v.mode "standalone") (gt (int $v.replicas) 1) -}}
{{- fail (printf "mode standalone: replicas is %d, and one pod only can have the volume and its database; set mode to replicated, with PostgreSQL and a bucket, or leave replicas out" (int $v.replicas)) -}}
{{- end -}}
{{- if and (eq $v.mode "standalone") $v.autoscaling.enabled -}}
{{- fail "mode standalone: autoscaling.enabled is set, and one pod only can have the volume and its database; set mode to replicated, with PostgreSQL and a bucket, or leave autoscaling out" -}}
{{- end -}}
{{- if and (eq $v.storage.driver "s3") (not $v.storage.s3.bucket) -}}
{{- fail "storage.driver s3: storage.s3.bucket is not set" -}}
{{- end -}}
{{- if and $v.ingress.enabled (not $v.tls.existingSecret) (not $v.trustedProxies) -}}
{{- fail "ingress.enabled: trustedProxies is not set; berthd answers plain http to the networks named there only. Name those of the ingress controller's pods" -}}
{{- end -}}
{{- if and $v.httpRoute.enabled (not $v.httpRoute.parentRefs) -}}
{{- fail "httpRoute.enabled: httpRoute.parentRefs is not set; name the gateway" -}}
{{- end -}}
{{- end -}}

{{/* The configuration file. Secrets are not in it: they come as files (berth.env). */}}
{{- define "berth.config" -}}
{{- $v := .Values -}}
{{- $http := dict "addr" ":5000" "host" (printf "https://%s" $v.host) "draintimeout" (printf "%ds" (int $v.drainSeconds)) -}}
{{- if $v.trustedProxies }}{{ $_ := set $http "trustedproxies" $v.trustedProxies }}{{ end -}}
{{- if $v.tls.existingSecret }}{{ $_ := set $http "tls" (dict "certificate" "/etc/berth/tls/tls.crt" "key" "/etc/berth/tls/tls.key") }}{{ end -}}
{{- if $v.metrics.enabled }}{{ $_ := set $http "debug" (dict "addr" (printf ":%d" (int $v.metrics.port))) }}{{ end -}}
{{- $storage := dict -}}
{{- if eq $v.storage.driver "s3" -}}
{{- $s3 := dict "bucket" $v.storage.s3.bucket -}}
{{- with $v.storage.s3.region }}{{ $_ := set $s3 "region" . }}{{ end -}}
{{- with $v.storage.s3.regionEndpoint }}{{ $_ := set $s3 "regionendpoint" . }}{{ end -}}
{{- with $v.storage.s3.forcePathStyle }}{{ $_ := set $s3 "forcepathstyle" . }}{{ end -}}
{{- with $v.storage.s3.rootDirectory }}{{ $_ := set $s3 "rootdirectory" . }}{{ end -}}
{{- $_ := set $storage "s3" $s3 -}}
{{- $_ := set $storage "redirect" (dict "disable" (not $v.storage.redirect)) -}}
{{- else if eq $v.mode "replicated" -}}
{{- $_ := set $storage "filesystem" (dict "rootdirectory" "/var/lib/registry-shared") -}}
{{- else -}}
{{- $_ := set $storage "filesystem" (dict "rootdirectory" "/var/lib/registry") -}}
{{- end -}}
{{- $berth := dict "data" "/var/lib/registry" -}}
{{- if $v.database.existingSecret }}{{ $_ := set $berth "database" (dict "maxopen" (int $v.database.maxOpen)) }}{{ end -}}
{{- $config := dict "version" 0.1 "log" (dict "formatter" "json") "http" $http "storage" $storage "berth" $berth -}}
{{- mergeOverwrite $config (deepCopy $v.config) | toYaml -}}
{{- end -}}

{{/* Secrets as files that only the pod's user reads. */}}
{{- define "berth.secretSources" -}}
{{- $v := .Values -}}
{{- with $v.database }}{{ if .existingSecret }}
- secret: {name: {{ .existingSecret }}, items: [{key: {{ .key }}, path: database-url}]}
{{- end }}{{ end }}
{{- with $v.admin }}{{ if .existingSecret }}
- secret: {name: {{ .existingSecret }}, items: [{key: {{ .key }}, path: admin-password}]}
{{- end }}{{ end }}
{{- with $v.storage.s3 }}{{ if and (eq $v.storage.driver "s3") .existingSecret }}
- secret: {name: {{ .existingSecret }}, items: [{key: {{ .accessKeyKey }}, path: s3-accesskey}, {key: {{ .secretKeyKey }}, path: s3-secretkey}]}
{{- end }}{{ end }}
{{- end -}}

{{- define "berth.env" -}}
{{- $v := .Values -}}
- {name: BERTH_CONFIG, value: /etc/berth/berth.yml}
{{- if $v.goMemLimit }}
- {name: GOMEMLIMIT, value: {{ $v.goMemLimit | quote }}}
{{- end }}
{{- if $v.database.existingSecret }}
- {name: BERTH_DATABASE_FILE, value: /run/secrets/berth/database-url}
{{- end }}
{{- if $v.admin.existingSecret }}
- {name: BERTH_ADMIN_PASSWORD_FILE, value: /run/secrets/berth/admin-password}
{{- end }}
{{- if and (eq $v.storage.driver "s3") $v.storage.s3.existingSecret }}
- {name: REGISTRY_STORAGE_S3_ACCESSKEY_FILE, value: /run/secrets/berth/s3-accesskey}
- {name: REGISTRY_STORAGE_S3_SECRETKEY_FILE, value: /run/secrets/berth/s3-secretkey}
{{- end }}
{{- with $v.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The pod, which both modes share. */}}
{{- define "berth.pod" -}}
{{- $v := .Values -}}
metadata:
  labels:
    {{- include "berth.labels" . | nindent 4 }}
    {{- with $v.podLabels }}{{ toYaml . | nindent 4 }}{{ end }}
  annotations:
    # A changed configuration makes new pods, one after the other.
    checksum/config: {{ include "berth.config" . | sha256sum }}
    {{- with $v.podAnnotations }}{{ toYaml . | nindent 4 }}{{ end }}
spec:
  serviceAccountName: {{ include "berth.serviceAccount" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ add (int $v.preStopSeconds) (int $v.drainSeconds) 10 }}
  {{- with $v.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with $v.image.pullSecrets }}
  imagePullSecrets: {{ toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: {type: RuntimeDefault}
  {{- if $v.topologySpread }}
  topologySpreadConstraints:
    {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels: {{ include "berth.selector" $ | nindent 10 }}
      {{- if eq $v.mode "replicated" }}
      matchLabelKeys: [pod-template-hash]
      {{- end }}
    {{- end }}
  {{- end }}
  {{- with $v.affinity }}
  affinity: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with $v.nodeSelector }}
  nodeSelector: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with $v.tolerations }}
  tolerations: {{ toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: berthd
      image: {{ include "berth.image" . | quote }}
      imagePullPolicy: {{ $v.image.pullPolicy }}
      args: [serve]
      env: {{ include "berth.env" . | nindent 8 }}
      ports:
        - {name: registry, containerPort: 5000, protocol: TCP}
        {{- if $v.metrics.enabled }}
        - {name: metrics, containerPort: {{ $v.metrics.port }}, protocol: TCP}
        {{- end }}
      # Health is served over plain HTTP to everyone, also when the port has a certificate. A new pod counts when it has
      # reached its database and its store, which ends a rollout of wrong settings; migrations come before that.
      startupProbe:
        httpGet: {path: /readyz, port: registry}
        periodSeconds: 2
        failureThreshold: 450
      livenessProbe:
        httpGet: {path: /livez, port: registry}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: {path: {{ $v.readinessPath }}, port: registry}
        periodSeconds: 5
        timeoutSeconds: 4
        failureThreshold: 2
      {{- if $v.preStopSeconds }}
      lifecycle:
        preStop:
          sleep: {seconds: {{ $v.preStopSeconds }}}
      {{- end }}
      resources: {{ toYaml $v.resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      volumeMounts:
        - {name: config, mountPath: /etc/berth/berth.yml, subPath: berth.yml, readOnly: true}
        - {name: data, mountPath: /var/lib/registry}
        - {name: tmp, mountPath: /tmp}
        {{- if and (eq $v.mode "replicated") (eq $v.storage.driver "filesystem") }}
        - {name: shared, mountPath: /var/lib/registry-shared}
        {{- end }}
        {{- if include "berth.secretSources" . | trim }}
        - {name: secrets, mountPath: /run/secrets/berth, readOnly: true}
        {{- end }}
        {{- if $v.tls.existingSecret }}
        - {name: tls, mountPath: /etc/berth/tls, readOnly: true}
        {{- end }}
  volumes:
    - name: config
      configMap: {name: {{ include "berth.fullname" . }}}
    - name: tmp
      emptyDir: {sizeLimit: 256Mi}
    {{- if eq $v.mode "replicated" }}
    # Nothing in it outlives the pod, nothing has to.
    - name: data
      emptyDir: {sizeLimit: 256Mi}
    {{- if eq $v.storage.driver "filesystem" }}
    - name: shared
      persistentVolumeClaim: {claimName: {{ $v.storage.existingClaim }}}
    {{- end }}
    {{- else if $v.storage.existingClaim }}
    - name: data
      persistentVolumeClaim: {claimName: {{ $v.storage.existingClaim }}}
    {{- end }}
    {{- with include "berth.secretSources" . | trim }}
    - name: secrets
      projected:
        defaultMode: 0440
        sources: {{ . | nindent 10 }}
    {{- end }}
    {{- if $v.tls.existingSecret }}
    - name: tls
      secret: {secretName: {{ $v.tls.existingSecret }}, defaultMode: 0440}
    {{- end }}
{{- end -}}
