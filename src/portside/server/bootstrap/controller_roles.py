"""Rules of the ClusterRoles ``system:controller:NAME`` (facts of Kubernetes 1.37); the form is that of ``cluster_roles``."""

CONTROLLER_ROLES: dict[str, str] = {
    "attachdetach-controller": """
        core : persistentvolumeclaims persistentvolumes : list watch
        core : nodes : READ
        core : nodes/status : patch update
        core : pods : list watch
        core events.k8s.io : events : create patch update
        storage.k8s.io : volumeattachments : READ create delete
        storage.k8s.io : csidrivers : READ
        storage.k8s.io : csinodes : READ
    """,
    "certificate-controller": """
        certificates.k8s.io : certificatesigningrequests : READ delete
        certificates.k8s.io : certificatesigningrequests/approval certificatesigningrequests/status : update
        certificates.k8s.io : signers : approve : kubernetes.io/kube-apiserver-client-kubelet
        certificates.k8s.io : signers : sign : kubernetes.io/kube-apiserver-client kubernetes.io/kube-apiserver-client-kubelet kubernetes.io/kubelet-serving kubernetes.io/legacy-unknown
        authorization.k8s.io : subjectaccessreviews : create
        core events.k8s.io : events : create patch update
    """,
    "clusterrole-aggregation-controller": """
        rbac.authorization.k8s.io : clusterroles : READ escalate patch update
    """,
    "cronjob-controller": """
        batch : cronjobs : READ update
        batch : jobs : READ create delete patch update
        batch : cronjobs/status : update
        batch : cronjobs/finalizers : update
        core : pods : delete list watch
        core events.k8s.io : events : create patch update
    """,
    "daemon-set-controller": """
        apps extensions : daemonsets : READ
        apps extensions : daemonsets/status : update
        apps extensions : daemonsets/finalizers : update
        core : nodes : list watch
        core : pods : create delete list patch watch
        core : pods/binding : create
        apps : controllerrevisions : READ create delete patch update
        core events.k8s.io : events : create patch update
    """,
    "deployment-controller": """
        apps extensions : deployments : READ update
        apps extensions : deployments/status : update
        apps extensions : deployments/finalizers : update
        apps extensions : replicasets : READ create delete patch update
        core : pods : READ update
        core events.k8s.io : events : create patch update
    """,
    "device-taint-eviction-controller": """
        core : pods : READ delete
        core : pods/status : patch update
        resource.k8s.io : resourceclaims : READ
        resource.k8s.io : resourceslices : READ
        resource.k8s.io : deviceclasses : READ
        core events.k8s.io : events : create patch update
        resource.k8s.io : devicetaintrules/status : patch update
        resource.k8s.io : devicetaintrules : READ
    """,
    "disruption-controller": """
        apps extensions : deployments : READ
        apps extensions : replicasets : READ
        core : replicationcontrollers : READ
        policy : poddisruptionbudgets : READ
        apps : statefulsets : READ
        policy : poddisruptionbudgets/status : update
        core : pods/status : patch update
        * : */scale : get
        core events.k8s.io : events : create patch update
    """,
    "endpoint-controller": """
        core : pods services : READ
        core : endpoints : READ create delete update
        core : endpoints/restricted : create
        core events.k8s.io : events : create patch update
    """,
    "endpointslice-controller": """
        core : nodes pods services : READ
        core : services/finalizers : update
        discovery.k8s.io : endpointslices : READ create delete update
        core events.k8s.io : events : create patch update
    """,
    "endpointslicemirroring-controller": """
        core : endpoints services : READ
        core : services/finalizers : update
        core : endpoints/finalizers : update
        discovery.k8s.io : endpointslices : READ create delete update
        core events.k8s.io : events : create patch update
    """,
    "ephemeral-volume-controller": """
        core : pods : READ
        core : pods/finalizers : update
        core : persistentvolumeclaims : READ create
        core events.k8s.io : events : create patch update
    """,
    "expand-controller": """
        core : persistentvolumes : READ patch update
        core : persistentvolumeclaims/status : patch update
        core : persistentvolumeclaims : READ
        core events.k8s.io : events : create patch update
    """,
    "generic-garbage-collector": """
        * : * : READ delete patch update
        core events.k8s.io : events : create patch update
    """,
    "horizontal-pod-autoscaler": """
        autoscaling : horizontalpodautoscalers : READ
        autoscaling : horizontalpodautoscalers/status : update
        * : */scale : get update
        core : pods : list watch
        metrics.k8s.io : pods : list watch
        custom.metrics.k8s.io : * : READ
        external.metrics.k8s.io : * : READ
        core events.k8s.io : events : create patch update
    """,
    "job-controller": """
        batch : jobs : READ patch update
        batch : jobs/status : update
        batch : jobs/finalizers : update
        core : pods : create delete list patch watch
        core events.k8s.io : events : create patch update
    """,
    "kube-apiserver-serving-clustertrustbundle-publisher": """
        certificates.k8s.io : signers : attest : kubernetes.io/kube-apiserver-serving
        certificates.k8s.io : clustertrustbundles : create delete list update watch
        core events.k8s.io : events : create patch update
    """,
    "legacy-service-account-token-cleaner": """
        core : configmaps : get : kube-apiserver-legacy-service-account-token-tracking
        core : secrets : delete patch
    """,
    "namespace-controller": """
        core : namespaces : READ delete
        core : namespaces/finalize namespaces/status : update
        * : * : READ delete deletecollection
    """,
    "node-controller": """
        core : nodes : READ delete patch update
        core : nodes/status : patch update
        core : pods/status : patch update
        core : pods : READ delete
        coordination.k8s.io : leases : READ
        core events.k8s.io : events : create patch update
    """,
    "persistent-volume-binder": """
        core : persistentvolumes : READ create delete update
        core : persistentvolumes/status : update
        core : persistentvolumeclaims : READ update
        core : persistentvolumeclaims/status : update
        core : pods : READ create delete
        storage.k8s.io : storageclasses : READ
        core : nodes : list watch
        core events.k8s.io : events : create patch update
        core : events : watch
    """,
    "pod-garbage-collector": """
        core : pods : delete list watch
        core : nodes : READ
        core : pods/status : patch
    """,
    "podcertificaterequestcleaner": """
        certificates.k8s.io : podcertificaterequests : READ delete
    """,
    "pv-protection-controller": """
        core : persistentvolumes : READ update
        core events.k8s.io : events : create patch update
    """,
    "pvc-protection-controller": """
        core : persistentvolumeclaims : READ update
        core : persistentvolumeclaims/status : update
        core : pods : READ
        core events.k8s.io : events : create patch update
    """,
    "replicaset-controller": """
        apps extensions : replicasets : READ update
        apps extensions : replicasets/status : update
        apps extensions : replicasets/finalizers : update
        core : pods : create delete list patch watch
        core events.k8s.io : events : create patch update
    """,
    "replication-controller": """
        core : replicationcontrollers : READ update
        core : replicationcontrollers/status : update
        core : replicationcontrollers/finalizers : update
        core : pods : create delete list patch watch
        core events.k8s.io : events : create patch update
    """,
    "resource-claim-controller": """
        core : pods : READ
        core : pods/finalizers : update
        resource.k8s.io : resourceclaims : READ create delete
        resource.k8s.io : resourceclaims resourceclaims/status : patch update
        core : pods/status : patch update
        core events.k8s.io : events : create patch update
        resource.k8s.io : resourceclaims/binding : patch update
    """,
    "resourcequota-controller": """
        * : * : list watch
        core : resourcequotas/status : update
        core events.k8s.io : events : create patch update
    """,
    "root-ca-cert-publisher": """
        core : configmaps : create update
        core events.k8s.io : events : create patch update
    """,
    "route-controller": """
        core : nodes : list watch
        core : nodes/status : patch
        core events.k8s.io : events : create patch update
    """,
    "selinux-warning-controller": """
        core events.k8s.io : events : create patch update
        core : persistentvolumes : READ
        core : persistentvolumeclaims : READ
        core : pods : READ
        storage.k8s.io : csidrivers : READ
    """,
    "service-account-controller": """
        core : serviceaccounts : create
        core events.k8s.io : events : create patch update
    """,
    "service-cidrs-controller": """
        networking.k8s.io : servicecidrs : READ patch update
        networking.k8s.io : servicecidrs/finalizers : patch update
        networking.k8s.io : servicecidrs/status : patch update
        networking.k8s.io : ipaddresses : READ
        core events.k8s.io : events : create patch update
    """,
    "service-controller": """
        core : services : READ
        core : services/status : patch update
        core : nodes : list watch
        core events.k8s.io : events : create patch update
    """,
    "statefulset-controller": """
        core : pods : list watch
        apps : statefulsets : READ
        apps : statefulsets/status : update
        apps : statefulsets/finalizers : update
        core : pods : create delete get patch update
        apps : controllerrevisions : READ create delete patch update
        core : persistentvolumeclaims : READ create
        core : persistentvolumeclaims : delete update
        core : pods/finalizers : update
        core events.k8s.io : events : create patch update
    """,
    "storage-version-migrator-controller": """
        * : * : list patch
        apiextensions.k8s.io : customresourcedefinitions : get
        apiextensions.k8s.io : customresourcedefinitions/status : patch
        storagemigration.k8s.io : storageversionmigrations/status : update
    """,
    "ttl-after-finished-controller": """
        batch : jobs : READ delete
        core events.k8s.io : events : create patch update
    """,
    "ttl-controller": """
        core : nodes : list patch update watch
        core events.k8s.io : events : create patch update
    """,
    "validatingadmissionpolicy-status-controller": """
        admissionregistration.k8s.io : validatingadmissionpolicies : READ
        admissionregistration.k8s.io : validatingadmissionpolicies/status : get patch update
        core events.k8s.io : events : create patch update
    """,
    "volumeattributesclass-protection-controller": """
        core : persistentvolumeclaims : READ
        core : persistentvolumes : READ
        storage.k8s.io : volumeattributesclasses : READ update
        core events.k8s.io : events : create patch update
    """,
}
