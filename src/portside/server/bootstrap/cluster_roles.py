"""Rules of the default ClusterRoles, but for the controllers' (facts of Kubernetes 1.37).

One rule a line: ``groups : resources : verbs [: names]``, or ``urls : paths : verbs``. ``core`` is the group "";
READ, WRITE and ALL are the usual verb sets (``roles.VERBS``).
"""

CLUSTER_ROLES: dict[str, str] = {
    "cluster-admin": """
        * : * : *
        urls : * : *
    """,
    "system:aggregate-to-admin": """
        authorization.k8s.io : localsubjectaccessreviews : create
        rbac.authorization.k8s.io : rolebindings roles : ALL
    """,
    "system:aggregate-to-edit": """
        core : pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy : READ
        core : serviceaccounts : impersonate
        core : pods pods/attach pods/exec pods/portforward pods/proxy : WRITE
        core : pods/eviction : create
        core : configmaps persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets serviceaccounts services services/proxy : WRITE
        core : serviceaccounts/token : create
        core events.k8s.io : events : WRITE
        apps : daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale statefulsets statefulsets/scale : WRITE
        autoscaling : horizontalpodautoscalers : WRITE
        batch : cronjobs jobs : WRITE
        extensions : daemonsets deployments deployments/rollback deployments/scale ingresses networkpolicies replicasets replicasets/scale replicationcontrollers/scale : WRITE
        policy : poddisruptionbudgets : WRITE
        networking.k8s.io : ingresses networkpolicies : WRITE
        coordination.k8s.io : leases : ALL
        resource.k8s.io : resourceclaims resourceclaimtemplates : WRITE
    """,
    "system:aggregate-to-view": """
        core : configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods replicationcontrollers replicationcontrollers/scale serviceaccounts services services/status : READ
        core : bindings limitranges namespaces/status pods/log pods/status replicationcontrollers/status resourcequotas resourcequotas/status : READ
        core : namespaces : READ
        core events.k8s.io : events : READ
        discovery.k8s.io : endpointslices : READ
        apps : controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status replicasets replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status : READ
        autoscaling : horizontalpodautoscalers horizontalpodautoscalers/status : READ
        batch : cronjobs cronjobs/status jobs jobs/status : READ
        extensions : daemonsets daemonsets/status deployments deployments/scale deployments/status ingresses ingresses/status networkpolicies replicasets replicasets/scale replicasets/status replicationcontrollers/scale : READ
        policy : poddisruptionbudgets poddisruptionbudgets/status : READ
        networking.k8s.io : ingresses ingresses/status networkpolicies : READ
        resource.k8s.io : resourceclaims resourceclaims/status resourceclaimtemplates : READ
    """,
    "system:auth-delegator": """
        authentication.k8s.io : tokenreviews : create
        authorization.k8s.io : subjectaccessreviews : create
    """,
    "system:basic-user": """
        authorization.k8s.io : selfsubjectaccessreviews selfsubjectrulesreviews : create
        authentication.k8s.io : selfsubjectreviews : create
    """,
    "system:certificates.k8s.io:certificatesigningrequests:nodeclient": """
        certificates.k8s.io : certificatesigningrequests/nodeclient : create
    """,
    "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient": """
        certificates.k8s.io : certificatesigningrequests/selfnodeclient : create
    """,
    "system:certificates.k8s.io:kube-apiserver-client-approver": """
        certificates.k8s.io : signers : approve : kubernetes.io/kube-apiserver-client
    """,
    "system:certificates.k8s.io:kube-apiserver-client-kubelet-approver": """
        certificates.k8s.io : signers : approve : kubernetes.io/kube-apiserver-client-kubelet
    """,
    "system:certificates.k8s.io:kubelet-serving-approver": """
        certificates.k8s.io : signers : approve : kubernetes.io/kubelet-serving
    """,
    "system:certificates.k8s.io:legacy-unknown-approver": """
        certificates.k8s.io : signers : approve : kubernetes.io/legacy-unknown
    """,
    "system:cluster-trust-bundle-discovery": """
        certificates.k8s.io : clustertrustbundles : READ
    """,
    "system:discovery": """
        urls : /api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz /version /version/ : get
    """,
    "system:heapster": """
        core : events namespaces nodes pods : READ
        extensions : deployments : READ
    """,
    "system:kube-aggregator": """
        core : endpoints services : READ
    """,
    "system:kube-controller-manager": """
        core events.k8s.io : events : create patch update
        coordination.k8s.io : leases : create
        coordination.k8s.io : leases : get update : kube-controller-manager
        core : secrets serviceaccounts : create
        core : secrets : delete
        core : configmaps namespaces secrets serviceaccounts : get
        core : secrets serviceaccounts : update
        authentication.k8s.io : tokenreviews : create
        authorization.k8s.io : subjectaccessreviews : create
        * : * : list watch
        core : serviceaccounts/token : create
    """,
    "system:kube-dns": """
        core : endpoints services : list watch
    """,
    "system:kube-scheduler": """
        core events.k8s.io : events : create patch update
        coordination.k8s.io : leases : create
        coordination.k8s.io : leases : READ update : kube-scheduler
        coordination.k8s.io : leasecandidates : ALL
        core : nodes : READ
        core : pods : READ delete
        core : bindings pods/binding : create
        core : pods/status : patch update
        core : replicationcontrollers services : READ
        apps extensions : replicasets : READ
        apps : statefulsets : READ
        policy : poddisruptionbudgets : READ
        core : persistentvolumeclaims persistentvolumes : READ
        authentication.k8s.io : tokenreviews : create
        authorization.k8s.io : subjectaccessreviews : create
        storage.k8s.io : csinodes : READ
        storage.k8s.io : volumeattachments : READ
        core : namespaces : READ
        storage.k8s.io : csidrivers : READ
        storage.k8s.io : csistoragecapacities : READ
        resource.k8s.io : deviceclasses : READ
        resource.k8s.io : resourceclaims : READ patch update
        resource.k8s.io : resourceclaims/status : READ patch update
        core : pods/finalizers : update
        resource.k8s.io : resourceslices : READ
        resource.k8s.io : resourceclaims : create delete
        resource.k8s.io : devicetaintrules : READ
        resource.k8s.io : resourceclaims/binding : patch update
    """,
    "system:kubelet-api-admin": """
        core : nodes : READ
        core : nodes : proxy
        core : nodes/log nodes/metrics nodes/proxy nodes/stats : *
        core : nodes/configz nodes/healthz nodes/pods : *
    """,
    "system:monitoring": """
        urls : /flagz /healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/* /statusz : get
        core : nodes/metrics : get
    """,
    "system:node": """
        authentication.k8s.io : tokenreviews : create
        authorization.k8s.io : localsubjectaccessreviews subjectaccessreviews : create
        core : services : READ
        core : nodes : READ create
        core : nodes/status : patch update
        core : nodes : patch update
        core events.k8s.io : events : create patch update
        core : pods : READ
        core : pods : create delete
        core : pods/status : patch update
        core : pods/eviction : create
        core : configmaps secrets : READ
        core : persistentvolumeclaims persistentvolumes : get
        core : endpoints : get
        certificates.k8s.io : certificatesigningrequests : READ create
        coordination.k8s.io : leases : create delete get patch update
        storage.k8s.io : volumeattachments : get
        core : serviceaccounts/token : create
        core : persistentvolumeclaims/status : get patch update
        storage.k8s.io : csidrivers : READ
        storage.k8s.io : csinodes : create delete get patch update
        node.k8s.io : runtimeclasses : READ
        resource.k8s.io : resourceclaims : get
        resource.k8s.io : resourceslices : deletecollection
        certificates.k8s.io : clustertrustbundles : READ
        core : serviceaccounts : get
        certificates.k8s.io : podcertificaterequests : READ create
    """,
    "system:node-bootstrapper": """
        certificates.k8s.io : certificatesigningrequests : READ create
    """,
    "system:node-problem-detector": """
        core : nodes : get
        core : nodes/status : patch
        core events.k8s.io : events : create patch update
    """,
    "system:node-proxier": """
        core : endpoints services : list watch
        core : nodes : READ
        core events.k8s.io : events : create patch update
        networking.k8s.io : servicecidrs : list watch
        discovery.k8s.io : endpointslices : list watch
    """,
    "system:persistent-volume-provisioner": """
        core : persistentvolumes : READ create delete
        core : persistentvolumeclaims : READ update
        storage.k8s.io : storageclasses : READ
        core : events : watch
        core events.k8s.io : events : create patch update
    """,
    "system:public-info-viewer": """
        urls : /healthz /livez /readyz /version /version/ : get
    """,
    "system:service-account-issuer-discovery": """
        urls : /.well-known/openid-configuration /.well-known/openid-configuration/ /openid/v1/jwks /openid/v1/jwks/ : get
    """,
    "system:volume-scheduler": """
        core : persistentvolumes : READ patch update
        storage.k8s.io : storageclasses : READ
        core : persistentvolumeclaims : READ patch update
    """,
}
