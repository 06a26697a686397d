"""The pod's fields in the order and with the names of upstream's internal type, one row per field.

Three uses: dropping what Go's encoding leaves out (``tidy``), canonical quantities, and printing a value as upstream's
messages do (``dump``). Row: ``InternalName jsonName kind``. Kinds: s string, b bool, i int (left out when zero);
S, I the same but always written; p pointer to a scalar; l list, m map of scalars (left out when empty); q map of
quantities; Q quantity; V quantity or nothing; o:T object; v:T object always there; L:T list of objects; R:T the same, always written;
j a value printed as it is.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from portside.api import quantity

Json = dict[str, Any]
Field = tuple[str, str, str, str]

_TABLE = """
PodSpec: Volumes volumes L:Volume; InitContainers initContainers L:Container; Containers containers R:Container
 EphemeralContainers ephemeralContainers L:EphemeralContainer; RestartPolicy restartPolicy s
 TerminationGracePeriodSeconds terminationGracePeriodSeconds p; ActiveDeadlineSeconds activeDeadlineSeconds p
 DNSPolicy dnsPolicy s; NodeSelector nodeSelector m; ServiceAccountName serviceAccountName s
 DeprecatedServiceAccount serviceAccount s; AutomountServiceAccountToken automountServiceAccountToken p
 NodeName nodeName s; HostNetwork hostNetwork b; HostPID hostPID b; HostIPC hostIPC b
 ShareProcessNamespace shareProcessNamespace p; SecurityContext securityContext o:PodSecurityContext
 ImagePullSecrets imagePullSecrets L:LocalObjectReference; Hostname hostname s; Subdomain subdomain s
 Affinity affinity o:Affinity; SchedulerName schedulerName s; Tolerations tolerations L:Toleration
 HostAliases hostAliases L:HostAlias; PriorityClassName priorityClassName s; Priority priority p
 DNSConfig dnsConfig o:PodDNSConfig; ReadinessGates readinessGates L:PodReadinessGate
 RuntimeClassName runtimeClassName p; EnableServiceLinks enableServiceLinks p; PreemptionPolicy preemptionPolicy p
 Overhead overhead q; TopologySpreadConstraints topologySpreadConstraints L:TopologySpreadConstraint
 SetHostnameAsFQDN setHostnameAsFQDN p; OS os o:PodOS; HostUsers hostUsers p
 SchedulingGates schedulingGates L:PodSchedulingGate; ResourceClaims resourceClaims L:PodResourceClaim
 Resources resources o:ResourceRequirements; HostnameOverride hostnameOverride p; SchedulingGroup schedulingGroup j
 EvictionResponders evictionResponders j
PodSecurityContext: SELinuxOptions seLinuxOptions o:SELinuxOptions; WindowsOptions windowsOptions o:WindowsOptions
 RunAsUser runAsUser p; RunAsGroup runAsGroup p; RunAsNonRoot runAsNonRoot p; SupplementalGroups supplementalGroups l
 SupplementalGroupsPolicy supplementalGroupsPolicy p; FSGroup fsGroup p; Sysctls sysctls L:NameValue
 FSGroupChangePolicy fsGroupChangePolicy p; SeccompProfile seccompProfile o:Profile
 AppArmorProfile appArmorProfile o:Profile; SELinuxChangePolicy seLinuxChangePolicy p
Container: Name name S; Image image s; Command command l; Args args l; WorkingDir workingDir s; Ports ports L:ContainerPort
 EnvFrom envFrom L:EnvFromSource; Env env L:EnvVar; Resources resources v:ResourceRequirements
 ResizePolicy resizePolicy L:ContainerResizePolicy; RestartPolicy restartPolicy p
 RestartPolicyRules restartPolicyRules L:ContainerRestartRule; VolumeMounts volumeMounts L:VolumeMount
 VolumeDevices volumeDevices L:VolumeDevice; LivenessProbe livenessProbe o:Probe; ReadinessProbe readinessProbe o:Probe
 StartupProbe startupProbe o:Probe; Lifecycle lifecycle o:Lifecycle; TerminationMessagePath terminationMessagePath s
 TerminationMessagePolicy terminationMessagePolicy s; ImagePullPolicy imagePullPolicy s
 SecurityContext securityContext o:SecurityContext; Stdin stdin b; StdinOnce stdinOnce b; TTY tty b
EphemeralContainer: Name name S; Image image s; Command command l; Args args l; WorkingDir workingDir s
 Ports ports L:ContainerPort; EnvFrom envFrom L:EnvFromSource; Env env L:EnvVar; Resources resources v:ResourceRequirements
 ResizePolicy resizePolicy L:ContainerResizePolicy; RestartPolicy restartPolicy p
 RestartPolicyRules restartPolicyRules L:ContainerRestartRule; VolumeMounts volumeMounts L:VolumeMount
 VolumeDevices volumeDevices L:VolumeDevice; LivenessProbe livenessProbe o:Probe; ReadinessProbe readinessProbe o:Probe
 StartupProbe startupProbe o:Probe; Lifecycle lifecycle o:Lifecycle; TerminationMessagePath terminationMessagePath s
 TerminationMessagePolicy terminationMessagePolicy s; ImagePullPolicy imagePullPolicy s
 SecurityContext securityContext o:SecurityContext; Stdin stdin b; StdinOnce stdinOnce b; TTY tty b
 TargetContainerName targetContainerName s
ContainerPort: Name name s; HostPort hostPort i; ContainerPort containerPort I; Protocol protocol s; HostIP hostIP s
EnvFromSource: Prefix prefix s; ConfigMapRef configMapRef o:OptionalRef; SecretRef secretRef o:OptionalRef
OptionalRef: Name name s; Optional optional p
EnvVar: Name name S; Value value s; ValueFrom valueFrom o:EnvVarSource
EnvVarSource: FieldRef fieldRef o:ObjectFieldSelector; ResourceFieldRef resourceFieldRef o:ResourceFieldSelector
 ConfigMapKeyRef configMapKeyRef o:KeySelector; SecretKeyRef secretKeyRef o:KeySelector; FileKeyRef fileKeyRef o:FileKeySelector
ObjectFieldSelector: APIVersion apiVersion s; FieldPath fieldPath S
ResourceFieldSelector: ContainerName containerName s; Resource resource S; Divisor divisor Q
KeySelector: Name name s; Key key S; Optional optional p
FileKeySelector: VolumeName volumeName S; Path path S; Key key S; Optional optional p
ResourceRequirements: Limits limits q; Requests requests q; Claims claims L:ResourceClaim
ResourceClaim: Name name S; Request request s
ContainerResizePolicy: ResourceName resourceName S; RestartPolicy restartPolicy S
ContainerRestartRule: Action action s; ExitCodes exitCodes o:ExitCodes
ExitCodes: Operator operator s; Values values l
VolumeMount: Name name S; ReadOnly readOnly b; RecursiveReadOnly recursiveReadOnly p; MountPath mountPath S; SubPath subPath s
 MountPropagation mountPropagation p; SubPathExpr subPathExpr s; BindMountOptions bindMountOptions l
VolumeDevice: Name name S; DevicePath devicePath S
Probe: Exec exec o:ExecAction; HTTPGet httpGet o:HTTPGetAction; TCPSocket tcpSocket o:TCPSocketAction; GRPC grpc o:GRPCAction
 InitialDelaySeconds initialDelaySeconds i; TimeoutSeconds timeoutSeconds i; PeriodSeconds periodSeconds i
 SuccessThreshold successThreshold i; FailureThreshold failureThreshold i
 TerminationGracePeriodSeconds terminationGracePeriodSeconds p
ExecAction: Command command l
HTTPGetAction: Path path s; Port port j; Host host s; Scheme scheme s; HTTPHeaders httpHeaders L:HTTPHeader
 Protocol protocol p
HTTPHeader: Name name S; Value value S
TCPSocketAction: Port port j; Host host s
GRPCAction: Port port I; Service service p; Mode mode p
Lifecycle: PostStart postStart o:LifecycleHandler; PreStop preStop o:LifecycleHandler; StopSignal stopSignal p
LifecycleHandler: Exec exec o:ExecAction; HTTPGet httpGet o:HTTPGetAction; TCPSocket tcpSocket o:TCPSocketAction
 Sleep sleep o:SleepAction
SleepAction: Seconds seconds I
SecurityContext: Capabilities capabilities o:Capabilities; Privileged privileged p
 SELinuxOptions seLinuxOptions o:SELinuxOptions; WindowsOptions windowsOptions o:WindowsOptions; RunAsUser runAsUser p
 RunAsGroup runAsGroup p; RunAsNonRoot runAsNonRoot p; ReadOnlyRootFilesystem readOnlyRootFilesystem p
 AllowPrivilegeEscalation allowPrivilegeEscalation p; ProcMount procMount p; SeccompProfile seccompProfile o:Profile
 AppArmorProfile appArmorProfile o:Profile
Capabilities: Add add l; Drop drop l
SELinuxOptions: User user s; Role role s; Type type s; Level level s
WindowsOptions: GMSACredentialSpecName gmsaCredentialSpecName p; GMSACredentialSpec gmsaCredentialSpec p
 RunAsUserName runAsUserName p; HostProcess hostProcess p
Profile: Type type S; LocalhostProfile localhostProfile p
LocalObjectReference: Name name s
NameValue: Name name S; Value value S
Affinity: NodeAffinity nodeAffinity o:NodeAffinity; PodAffinity podAffinity o:PodAffinity
 PodAntiAffinity podAntiAffinity o:PodAffinity
NodeAffinity: RequiredDuringSchedulingIgnoredDuringExecution requiredDuringSchedulingIgnoredDuringExecution o:NodeSelector
 PreferredDuringSchedulingIgnoredDuringExecution preferredDuringSchedulingIgnoredDuringExecution L:PreferredSchedulingTerm
NodeSelector: NodeSelectorTerms nodeSelectorTerms R:NodeSelectorTerm
NodeSelectorTerm: MatchExpressions matchExpressions L:NodeSelectorRequirement; MatchFields matchFields L:NodeSelectorRequirement
NodeSelectorRequirement: Key key S; Operator operator S; Values values l
PreferredSchedulingTerm: Weight weight I; Preference preference v:NodeSelectorTerm
PodAffinity: RequiredDuringSchedulingIgnoredDuringExecution requiredDuringSchedulingIgnoredDuringExecution L:PodAffinityTerm
 PreferredDuringSchedulingIgnoredDuringExecution preferredDuringSchedulingIgnoredDuringExecution L:WeightedPodAffinityTerm
PodAffinityTerm: LabelSelector labelSelector j; Namespaces namespaces l; TopologyKey topologyKey S
 NamespaceSelector namespaceSelector j; MatchLabelKeys matchLabelKeys l; MismatchLabelKeys mismatchLabelKeys l
WeightedPodAffinityTerm: Weight weight I; PodAffinityTerm podAffinityTerm v:PodAffinityTerm
Toleration: Key key s; Operator operator s; Value value s; Effect effect s; TolerationSeconds tolerationSeconds p
HostAlias: IP ip S; Hostnames hostnames l
PodDNSConfig: Nameservers nameservers l; Searches searches l; Options options L:PodDNSConfigOption
PodDNSConfigOption: Name name s; Value value p
PodReadinessGate: ConditionType conditionType S
TopologySpreadConstraint: MaxSkew maxSkew I; TopologyKey topologyKey S; WhenUnsatisfiable whenUnsatisfiable S
 LabelSelector labelSelector j; MinDomains minDomains p; NodeAffinityPolicy nodeAffinityPolicy p
 NodeTaintsPolicy nodeTaintsPolicy p; MatchLabelKeys matchLabelKeys l
PodOS: Name name S
PodSchedulingGate: Name name S
PodResourceClaim: Name name S; ResourceClaimName resourceClaimName p; ResourceClaimTemplateName resourceClaimTemplateName p
Volume: Name name S; HostPath hostPath o:HostPath; EmptyDir emptyDir o:EmptyDir; GCEPersistentDisk gcePersistentDisk o:GCEDisk
 AWSElasticBlockStore awsElasticBlockStore o:AWSDisk; GitRepo gitRepo o:GitRepo; Secret secret o:SecretVolume; NFS nfs o:NFS
 ISCSI iscsi o:ISCSI; Glusterfs glusterfs o:Glusterfs; PersistentVolumeClaim persistentVolumeClaim o:Claim; RBD rbd o:RBD
 FlexVolume flexVolume o:Flex; Cinder cinder o:Cinder; CephFS cephfs o:CephFS; Flocker flocker o:Flocker
 DownwardAPI downwardAPI o:DownwardAPI; FC fc o:FC; AzureFile azureFile o:AzureFile; ConfigMap configMap o:ConfigMapVolume
 VsphereVolume vsphereVolume o:Vsphere; Quobyte quobyte o:Quobyte; AzureDisk azureDisk o:AzureDisk
 PhotonPersistentDisk photonPersistentDisk o:Photon; Projected projected o:Projected; PortworxVolume portworxVolume o:Portworx
 ScaleIO scaleIO o:ScaleIO; StorageOS storageos o:StorageOS
 CSI csi o:CSI; Ephemeral ephemeral o:Ephemeral; Image image o:ImageVolume
PersistentVolumeSource: GCEPersistentDisk gcePersistentDisk o:GCEDisk
 AWSElasticBlockStore awsElasticBlockStore o:AWSDisk; HostPath hostPath o:HostPath; Glusterfs glusterfs o:Glusterfs
 NFS nfs o:NFS; RBD rbd o:RBD; ISCSI iscsi o:ISCSI; Cinder cinder o:Cinder; CephFS cephfs o:CephFS; FC fc o:FC
 Flocker flocker o:Flocker; FlexVolume flexVolume o:Flex; AzureFile azureFile o:AzureFile; VsphereVolume vsphereVolume o:Vsphere
 Quobyte quobyte o:Quobyte; AzureDisk azureDisk o:AzureDisk; PhotonPersistentDisk photonPersistentDisk o:Photon
 PortworxVolume portworxVolume o:Portworx
 ScaleIO scaleIO o:ScaleIO; Local local o:LocalVolume; StorageOS storageos j; CSI csi j
LocalVolume: Path path S; FSType fsType p
HostPath: Path path S; Type type p
EmptyDir: Medium medium s; SizeLimit sizeLimit V; Mode mode p
GCEDisk: PDName pdName S; FSType fsType s; Partition partition i; ReadOnly readOnly b
AWSDisk: VolumeID volumeID S; FSType fsType s; Partition partition i; ReadOnly readOnly b
GitRepo: Repository repository S; Revision revision s; Directory directory s
SecretVolume: SecretName secretName s; Items items L:KeyToPath; DefaultMode defaultMode p; Optional optional p
 DefaultUser defaultUser p
KeyToPath: Key key S; Path path S; Mode mode p; User user p
Flocker: DatasetName datasetName s; DatasetUUID datasetUUID s
Vsphere: VolumePath volumePath S; FSType fsType s; StoragePolicyName storagePolicyName s; StoragePolicyID storagePolicyID s
Quobyte: Registry registry S; Volume volume S; ReadOnly readOnly b; User user s; Group group s; Tenant tenant s
Photon: PdID pdID S; FSType fsType s
StorageOS: VolumeName volumeName s; VolumeNamespace volumeNamespace s; FSType fsType s; ReadOnly readOnly b
 SecretRef secretRef o:LocalObjectReference
NFS: Server server S; Path path S; ReadOnly readOnly b
ISCSI: TargetPortal targetPortal S; IQN iqn S; Lun lun I; ISCSIInterface iscsiInterface s; FSType fsType s; ReadOnly readOnly b
 Portals portals l; DiscoveryCHAPAuth chapAuthDiscovery b; SessionCHAPAuth chapAuthSession b
 SecretRef secretRef o:LocalObjectReference; InitiatorName initiatorName p
Glusterfs: EndpointsName endpoints S; Path path S; ReadOnly readOnly b
Claim: ClaimName claimName S; ReadOnly readOnly b
RBD: CephMonitors monitors l; RBDImage image S; FSType fsType s; RBDPool pool s; RadosUser user s; Keyring keyring s
 SecretRef secretRef o:LocalObjectReference; ReadOnly readOnly b
Flex: Driver driver S; FSType fsType s; SecretRef secretRef o:LocalObjectReference; ReadOnly readOnly b; Options options m
Cinder: VolumeID volumeID S; FSType fsType s; ReadOnly readOnly b; SecretRef secretRef o:LocalObjectReference
CephFS: Monitors monitors l; Path path s; User user s; SecretFile secretFile s; SecretRef secretRef o:LocalObjectReference
 ReadOnly readOnly b
DownwardAPI: Items items L:DownwardFile; DefaultMode defaultMode p; DefaultUser defaultUser p
DownwardFile: Path path S; FieldRef fieldRef o:ObjectFieldSelector; ResourceFieldRef resourceFieldRef o:ResourceFieldSelector
 Mode mode p; User user p
FC: TargetWWNs targetWWNs l; Lun lun p; FSType fsType s; ReadOnly readOnly b; WWIDs wwids l
AzureFile: SecretName secretName S; ShareName shareName S; ReadOnly readOnly b
ConfigMapVolume: Name name s; Items items L:KeyToPath; DefaultMode defaultMode p; Optional optional p
 DefaultUser defaultUser p
AzureDisk: DiskName diskName S; DataDiskURI diskURI S; CachingMode cachingMode p; FSType fsType p; ReadOnly readOnly p; Kind kind p
Projected: Sources sources L:ProjectedSource; DefaultMode defaultMode p; DefaultUser defaultUser p
ProjectedSource: Secret secret o:KeyProjection; DownwardAPI downwardAPI o:DownwardProjection; ConfigMap configMap o:KeyProjection
 ServiceAccountToken serviceAccountToken o:TokenProjection; ClusterTrustBundle clusterTrustBundle o:TrustBundle
 PodCertificate podCertificate o:PodCertificate
KeyProjection: Name name s; Items items L:KeyToPath; Optional optional p
DownwardProjection: Items items L:DownwardFile
TokenProjection: Audience audience s; ExpirationSeconds expirationSeconds p; Path path S; User user p
TrustBundle: Name name p; SignerName signerName p; LabelSelector labelSelector j; Optional optional p; Path path S; User user p
PodCertificate: SignerName signerName s; KeyType keyType s; MaxExpirationSeconds maxExpirationSeconds p
 CredentialBundlePath credentialBundlePath s; KeyPath keyPath s; CertificateChainPath certificateChainPath s
 UserAnnotations userAnnotations m; User user p
Portworx: VolumeID volumeID S; FSType fsType s; ReadOnly readOnly b
ScaleIO: Gateway gateway S; System system S; SecretRef secretRef o:LocalObjectReference; SSLEnabled sslEnabled b
 ProtectionDomain protectionDomain s; StoragePool storagePool s; StorageMode storageMode s; VolumeName volumeName s
 FSType fsType s; ReadOnly readOnly b
CSI: Driver driver S; ReadOnly readOnly p; FSType fsType p; VolumeAttributes volumeAttributes m
 NodePublishSecretRef nodePublishSecretRef o:LocalObjectReference
Ephemeral: VolumeClaimTemplate volumeClaimTemplate o:ClaimTemplate
ClaimTemplate: ObjectMeta metadata j; Spec spec v:ClaimSpec
ClaimSpec: AccessModes accessModes l; Selector selector j; Resources resources v:ResourceRequirements; VolumeName volumeName s
 StorageClassName storageClassName p; VolumeMode volumeMode p; DataSource dataSource j; DataSourceRef dataSourceRef j
 VolumeAttributesClassName volumeAttributesClassName p
ImageVolume: Reference reference s; PullPolicy pullPolicy s
"""


def parse_shapes(table: str) -> dict[str, tuple[Field, ...]]:
    """A table of types: name -> rows of (internal name, JSON name, kind, type of what is inside)."""
    found: dict[str, list[Field]] = {}
    rows: list[Field] = []
    for line in table.strip().splitlines():
        if line[0] != " ":
            name, line = line.split(":", 1)
            rows = found[name] = []
        for item in line.split(";"):
            internal, external, kind = item.split()
            kind, _, inner = kind.partition(":")
            rows.append((internal, external, kind, inner))
    return {name: tuple(rows) for name, rows in found.items()}


@lru_cache(maxsize=1)
def shapes() -> dict[str, tuple[Field, ...]]:
    """The pod's types."""
    return parse_shapes(_TABLE)


@lru_cache(maxsize=256)
def _tidier(name: str) -> dict[str, tuple[str, str]]:
    table = {external: (kind, inner) for _, external, kind, inner in shapes()[name]}
    if name == "Volume":
        table["name"] = ("S", "")
    return table


def _quantities(values: Json) -> None:
    for key, text in values.items():
        values[key] = quantity.canonical(text)


def tidy(obj: Json, name: str) -> None:
    """Drops, in place, what Go leaves out when it is zero, and writes quantities canonically."""
    table = _tidier(name)
    dropped: list[str] | None = None
    for key, value in obj.items():
        found = table.get(key)
        if found is None:
            continue
        kind, inner = found
        if kind == "o" or kind == "v":
            tidy(value, inner)
        elif kind == "L" or kind == "R":
            if value:
                for i, item in enumerate(value):
                    if item is None:
                        item = value[i] = {}
                    tidy(item, inner)
            elif kind == "L":
                dropped = [*(dropped or ()), key]
        elif kind == "q":
            if value:
                _quantities(value)
            else:
                dropped = [*(dropped or ()), key]
        elif kind == "Q" or kind == "V":
            obj[key] = quantity.canonical(value)
        elif not value and kind in "sbilm":
            dropped = [*(dropped or ()), key]
    if dropped:
        for key in dropped:
            del obj[key]


_ZERO: dict[str, Any] = {"s": "", "S": "", "b": False, "i": 0, "I": 0, "Q": "0"}


def dump(obj: Json | None, name: str, table: dict[str, tuple[Field, ...]] | None = None) -> Json:
    """The object as upstream's internal type encodes to JSON: every field, internal names, null for what is absent.

    ``table``: the types, the pod's when not given.
    """
    obj, table = obj or {}, table or shapes()
    shown: Json = {}
    for internal, external, kind, inner in table[name]:
        value = obj.get(external)
        if kind in ("o", "v"):
            shown[internal] = None if value is None and kind == "o" else dump(value, inner, table)
        elif kind in ("L", "R"):
            shown[internal] = [dump(v, inner, table) for v in value] if value else None
        elif value is None or (kind in "lmq" and not value):
            shown[internal] = _ZERO.get(kind)
        elif kind in "mq":
            shown[internal] = dict(sorted(value.items()))
        else:
            shown[internal] = value
    return shown


def dump_pod_spec(spec: Json) -> Json:
    """A pod's spec as ``dump`` shows it."""
    return dump(spec, "PodSpec")


def go_json(value: Any, indent: int | None = None) -> str:
    """JSON as Go's encoder writes it, with its escapes for HTML."""
    text = json.dumps(value, ensure_ascii=False, indent=indent, separators=(",", ": " if indent else ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
