// Command goclient does with client-go's defaults what operators do, and prints one JSON line per step.
//
//	goclient KUBECONFIG NAMESPACE
//
// Each line: {"step": name, "error": "" or why, "media": media types of the answers}.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"sort"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	applycore "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// media remembers the content types of answers since it was last asked.
type media struct {
	sync.Mutex
	next http.RoundTripper
	seen map[string]bool
}

func (m *media) RoundTrip(request *http.Request) (*http.Response, error) {
	answer, err := m.next.RoundTrip(request)
	if err == nil {
		m.Lock()
		m.seen[strings.Split(answer.Header.Get("Content-Type"), ";")[0]] = true
		m.Unlock()
	}
	return answer, err
}

func (m *media) take() []string {
	m.Lock()
	defer m.Unlock()
	found := []string{}
	for name := range m.seen {
		found = append(found, name)
	}
	sort.Strings(found)
	m.seen = map[string]bool{}
	return found
}

// patience is how long what does not come is waited for; the machine may be loaded.
const patience = 60 * time.Second

type world struct {
	ctx       context.Context
	config    *rest.Config
	client    *kubernetes.Clientset
	namespace string
}

func pod(image string) corev1.PodSpec {
	return corev1.PodSpec{Containers: []corev1.Container{{
		Name: "c", Image: image,
		Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m")}},
		ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{
			HTTPGet: &corev1.HTTPGetAction{Path: "/", Port: intstr.FromString("http")}}},
		Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}},
	}}}
}

func configMaps(w world) error {
	maps := w.client.CoreV1().ConfigMaps(w.namespace)
	made, err := maps.Create(w.ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "a", Labels: map[string]string{"l": "1"}},
		Data:       map[string]string{"k": "v"}, BinaryData: map[string][]byte{"b": {0, 255}},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	if made.UID == "" || made.CreationTimestamp.IsZero() || string(made.BinaryData["b"]) != "\x00\xff" {
		return fmt.Errorf("created as %+v", made)
	}
	stale := made.DeepCopy()
	made.Data["k"] = "w"
	if made, err = maps.Update(w.ctx, made, metav1.UpdateOptions{}); err != nil {
		return err
	}
	stale.Data["k"] = "x"
	if _, err = maps.Update(w.ctx, stale, metav1.UpdateOptions{}); !errors.IsConflict(err) {
		return fmt.Errorf("a stale update: %v", err)
	}
	if _, err = maps.Create(w.ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "a"}}, metav1.CreateOptions{}); !errors.IsAlreadyExists(err) {
		return fmt.Errorf("a second creation: %v", err)
	}
	if _, err = maps.Patch(w.ctx, "a", types.StrategicMergePatchType, []byte(`{"data":{"p":"q"}}`), metav1.PatchOptions{}); err != nil {
		return err
	}
	list, err := maps.List(w.ctx, metav1.ListOptions{LabelSelector: "l=1"})
	if err != nil || len(list.Items) != 1 || list.Items[0].Data["p"] != "q" || list.ResourceVersion == "" {
		return fmt.Errorf("listed %+v: %v", list, err)
	}
	if err = maps.Delete(w.ctx, "a", metav1.DeleteOptions{}); err != nil {
		return err
	}
	if _, err = maps.Get(w.ctx, "a", metav1.GetOptions{}); !errors.IsNotFound(err) {
		return fmt.Errorf("after deletion: %v", err)
	}
	return nil
}

func invalid(w world) error {
	_, err := w.client.CoreV1().Pods(w.namespace).Create(w.ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "x"}}, metav1.CreateOptions{})
	status, ok := err.(errors.APIStatus)
	if !errors.IsInvalid(err) || !ok || len(status.Status().Details.Causes) == 0 {
		return fmt.Errorf("a pod of nothing: %v", err)
	}
	return nil
}

func workloads(w world) error {
	zero := int32(0)
	labels := map[string]string{"app": "go"}
	made, err := w.client.AppsV1().Deployments(w.namespace).Create(w.ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "d"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &zero, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: pod("i")},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	if made.Spec.Replicas == nil || *made.Spec.Replicas != 0 || made.Spec.Strategy.RollingUpdate.MaxSurge.StrVal != "25%" {
		return fmt.Errorf("a deployment came back as %+v", made.Spec)
	}
	probe := made.Spec.Template.Spec.Containers[0].ReadinessProbe
	if probe == nil || probe.HTTPGet == nil || probe.HTTPGet.Port.StrVal != "http" || probe.PeriodSeconds != 10 {
		return fmt.Errorf("a probe came back as %+v", probe)
	}
	scale, err := w.client.AppsV1().Deployments(w.namespace).GetScale(w.ctx, "d", metav1.GetOptions{})
	if err != nil || scale.Name != "d" || scale.Status.Selector != "app=go" {
		return fmt.Errorf("scale %+v: %v", scale, err)
	}
	spec := pod("i")
	spec.RestartPolicy = corev1.RestartPolicyNever
	job, err := w.client.BatchV1().Jobs(w.namespace).Create(w.ctx, &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "j-"},
		Spec:       batchv1.JobSpec{Template: corev1.PodTemplateSpec{Spec: spec}},
	}, metav1.CreateOptions{})
	if err != nil || !strings.HasPrefix(job.Name, "j-") || *job.Spec.BackoffLimit != 6 {
		return fmt.Errorf("job %+v: %v", job, err)
	}
	role, err := w.client.RbacV1().Roles(w.namespace).Create(w.ctx, &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: "r"},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"get"}}},
	}, metav1.CreateOptions{})
	if err != nil || len(role.Rules) != 1 {
		return fmt.Errorf("role %+v: %v", role, err)
	}
	return w.client.CoreV1().Secrets(w.namespace).DeleteCollection(w.ctx, metav1.DeleteOptions{}, metav1.ListOptions{})
}

func pages(w world) error {
	maps := w.client.CoreV1().ConfigMaps(w.namespace)
	for i := 0; i < 5; i++ {
		name := fmt.Sprintf("page-%d", i)
		if _, err := maps.Create(w.ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"page": "y"}}}, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	count, options := 0, metav1.ListOptions{Limit: 2, LabelSelector: "page=y"}
	for {
		list, err := maps.List(w.ctx, options)
		if err != nil {
			return err
		}
		count += len(list.Items)
		if options.Continue = list.Continue; options.Continue == "" {
			break
		}
	}
	if count != 5 {
		return fmt.Errorf("%d of 5 in pages", count)
	}
	return nil
}

func watches(w world) error {
	maps := w.client.CoreV1().ConfigMaps(w.namespace)
	stream, err := maps.Watch(w.ctx, metav1.ListOptions{LabelSelector: "watched=y"})
	if err != nil {
		return err
	}
	defer stream.Stop()
	if _, err = maps.Create(w.ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "seen", Labels: map[string]string{"watched": "y"}}}, metav1.CreateOptions{}); err != nil {
		return err
	}
	if err = maps.Delete(w.ctx, "seen", metav1.DeleteOptions{}); err != nil {
		return err
	}
	for _, wanted := range []string{"ADDED", "DELETED"} {
		select {
		case event := <-stream.ResultChan():
			if string(event.Type) != wanted || event.Object.(*corev1.ConfigMap).Name != "seen" {
				return fmt.Errorf("%s of %+v", event.Type, event.Object)
			}
		case <-time.After(patience):
			return fmt.Errorf("no %s within %s", wanted, patience)
		}
	}
	return nil
}

func expired(w world) error {
	stream, err := w.client.CoreV1().ConfigMaps(w.namespace).Watch(w.ctx, metav1.ListOptions{ResourceVersion: "1"})
	if err != nil {
		if errors.IsResourceExpired(err) {
			return nil
		}
		return err
	}
	defer stream.Stop()
	select {
	case event := <-stream.ResultChan():
		if event.Type == "ERROR" && !errors.IsResourceExpired(errors.FromObject(event.Object)) {
			return fmt.Errorf("an error that is no expiry: %+v", event.Object)
		}
	case <-time.After(5 * time.Second):
	}
	return nil
}

func informer(w world) error {
	factory := informers.NewSharedInformerFactoryWithOptions(w.client, 0, informers.WithNamespace(w.namespace))
	maps := factory.Core().V1().ConfigMaps()
	added := make(chan string, 100)
	if _, err := maps.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) { added <- obj.(*corev1.ConfigMap).Name },
	}); err != nil {
		return err
	}
	stop := make(chan struct{})
	defer close(stop)
	factory.Start(stop)
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	if !cache.WaitForCacheSync(ctx.Done(), maps.Informer().HasSynced) {
		return fmt.Errorf("the informer did not sync")
	}
	if _, err := w.client.CoreV1().ConfigMaps(w.namespace).Create(w.ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "news"}}, metav1.CreateOptions{}); err != nil {
		return err
	}
	for {
		select {
		case name := <-added:
			if name == "news" {
				_, err := maps.Lister().ConfigMaps(w.namespace).Get("news")
				return err
			}
		case <-ctx.Done():
			return fmt.Errorf("no news within %s", patience)
		}
	}
}

func apply(w world) error {
	maps := w.client.CoreV1().ConfigMaps(w.namespace)
	wanted := applycore.ConfigMap("applied", w.namespace).WithData(map[string]string{"a": "1"})
	made, err := maps.Apply(w.ctx, wanted, metav1.ApplyOptions{FieldManager: "one"})
	if err != nil || made.Data["a"] != "1" || len(made.ManagedFields) != 1 {
		return fmt.Errorf("applied %+v: %v", made, err)
	}
	other := applycore.ConfigMap("applied", w.namespace).WithData(map[string]string{"a": "2"})
	if _, err = maps.Apply(w.ctx, other, metav1.ApplyOptions{FieldManager: "two"}); !errors.IsConflict(err) {
		return fmt.Errorf("somebody else's field: %v", err)
	}
	extracted, err := applycore.ExtractConfigMap(made, "one")
	if err != nil || extracted.Data["a"] != "1" {
		return fmt.Errorf("extracted %+v: %v", extracted, err)
	}
	return nil
}

func election(w world) error {
	lock := &resourcelock.LeaseLock{
		LeaseMeta: metav1.ObjectMeta{Name: "leader", Namespace: w.namespace},
		Client:    w.client.CoordinationV1(), LockConfig: resourcelock.ResourceLockConfig{Identity: "me"},
	}
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	leading := make(chan struct{})
	go leaderelection.RunOrDie(ctx, leaderelection.LeaderElectionConfig{
		Lock: lock, LeaseDuration: 30 * time.Second, RenewDeadline: 20 * time.Second, RetryPeriod: 200 * time.Millisecond,
		ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(context.Context) { close(leading) }, OnStoppedLeading: func() {},
		},
	})
	select {
	case <-leading:
	case <-ctx.Done():
		return fmt.Errorf("nobody leads after %s", patience)
	}
	for {
		lease, err := w.client.CoordinationV1().Leases(w.namespace).Get(w.ctx, "leader", metav1.GetOptions{})
		if err != nil || *lease.Spec.HolderIdentity != "me" {
			return fmt.Errorf("lease %+v: %v", lease, err)
		}
		if lease.Spec.RenewTime.After(lease.Spec.AcquireTime.Time) {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("not renewed within %s: %+v", patience, lease)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func untyped(w world) error {
	client, err := dynamic.NewForConfig(w.config)
	if err != nil {
		return err
	}
	list, err := client.Resource(schema.GroupVersionResource{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterroles"}).List(w.ctx, metav1.ListOptions{})
	if err != nil || len(list.Items) < 50 {
		return fmt.Errorf("%v", err)
	}
	partial, err := metadata.NewForConfig(w.config)
	if err != nil {
		return err
	}
	found, err := partial.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}).Get(w.ctx, w.namespace, metav1.GetOptions{})
	if err != nil || found.UID == "" {
		return fmt.Errorf("metadata %+v: %v", found, err)
	}
	return nil
}

func everything(w world) error {
	_, lists, err := w.client.Discovery().ServerGroupsAndResources()
	if err != nil {
		return err
	}
	client, err := dynamic.NewForConfig(w.config)
	if err != nil {
		return err
	}
	config := rest.CopyConfig(w.config)
	config.ContentType = "application/vnd.kubernetes.protobuf"
	config.AcceptContentTypes = "application/vnd.kubernetes.protobuf"
	for _, list := range lists {
		version, _ := schema.ParseGroupVersion(list.GroupVersion)
		for _, kind := range list.APIResources {
			if strings.Contains(kind.Name, "/") || !strings.Contains(strings.Join(kind.Verbs, ","), "list") {
				continue
			}
			if _, err := client.Resource(version.WithResource(kind.Name)).List(w.ctx, metav1.ListOptions{Limit: 5}); err != nil {
				return fmt.Errorf("%s/%s: %v", list.GroupVersion, kind.Name, err)
			}
		}
	}
	protobuf, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	if nodes, err := protobuf.CoreV1().Nodes().List(w.ctx, metav1.ListOptions{}); err != nil || len(nodes.Items) == 0 || nodes.Items[0].Status.Capacity.Cpu().IsZero() {
		return fmt.Errorf("nodes in protobuf alone: %v", err)
	}
	return nil
}

func main() {
	config, err := clientcmd.BuildConfigFromFlags("", os.Args[1])
	if err != nil {
		panic(err)
	}
	config.QPS, config.Burst = 200, 200
	seen := &media{seen: map[string]bool{}}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { seen.next = next; return seen })
	w := world{context.Background(), config, kubernetes.NewForConfigOrDie(config), os.Args[2]}
	steps := []struct {
		name string
		run  func(world) error
	}{
		{"configmaps", configMaps}, {"invalid", invalid}, {"workloads", workloads}, {"pages", pages}, {"watch", watches},
		{"expired", expired}, {"informer", informer}, {"apply", apply}, {"election", election}, {"untyped", untyped},
		{"everything", everything},
	}
	for _, step := range steps {
		why := ""
		if err := step.run(w); err != nil {
			why = err.Error()
		}
		line, _ := json.Marshal(map[string]any{"step": step.name, "error": why, "media": seen.take()})
		fmt.Println(string(line))
	}
}
