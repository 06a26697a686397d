import com.google.gson.reflect.TypeToken;
import io.kubernetes.client.*;
import io.kubernetes.client.custom.V1Patch;
import io.kubernetes.client.extended.leaderelection.*;
import io.kubernetes.client.extended.leaderelection.resourcelock.LeaseLock;
import io.kubernetes.client.informer.*;
import io.kubernetes.client.openapi.*;
import io.kubernetes.client.openapi.apis.*;
import io.kubernetes.client.openapi.models.*;
import io.kubernetes.client.proto.V1;
import io.kubernetes.client.util.*;
import io.kubernetes.client.util.generic.*;
import io.kubernetes.client.util.generic.dynamic.*;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;

/** The official Java client: typed and dynamic objects, patches, watches, informers, election, protobuf; exec, log, forward. */
public class Official {
    interface Step { void run(ApiClient client, String space) throws Exception; }
    static void check(boolean holds, Object what) { if (!holds) throw new IllegalStateException(String.valueOf(what)); }
    static V1ConfigMap map(String app, String name) {
        return new V1ConfigMap().metadata(new V1ObjectMeta().name(name).putLabelsItem("app", app)).putDataItem("k", "1");
    }

    static void objects(ApiClient client, String space) throws Exception {
        var core = new CoreV1Api(client);
        var made = core.createNamespacedConfigMap(space, map("o", "a")).execute();
        check(made.getMetadata().getUid() != null, made);
        try { core.createNamespacedConfigMap(space, map("o", "a")).execute(); check(false, "twice"); } catch (ApiException e) { check(e.getCode() == 409, e.getResponseBody()); }
        made.putDataItem("k", "2");
        core.replaceNamespacedConfigMap("a", space, made).execute();
        for (int i = 0; i < 5; i++) core.createNamespacedConfigMap(space, map("o", "p" + i)).execute();
        int count = 0; String token = null;
        do { var page = core.listNamespacedConfigMap(space).labelSelector("app=o").limit(2)._continue(token).execute(); count += page.getItems().size(); token = page.getMetadata().getContinue(); } while (token != null && !token.isEmpty());
        check(count == 6, count);
        var patched = PatchUtils.patch(V1ConfigMap.class, () -> core.patchNamespacedConfigMap("a", space, new V1Patch("{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"data\":{\"s\":\"3\"}}")).fieldManager("java").force(true).buildCall(null), V1Patch.PATCH_FORMAT_APPLY_YAML, client);
        check("3".equals(patched.getData().get("s")), patched);
        var generic = new DynamicKubernetesApi("", "v1", "configmaps", client);
        check(generic.get(space, "a").throwsApiException().getObject().getMetadata().getName().equals("a"), "dynamic");
        core.deleteCollectionNamespacedConfigMap(space).labelSelector("app=o").execute();
        check(core.listNamespacedConfigMap(space).labelSelector("app=o").execute().getItems().isEmpty(), "gone");
        check(new VersionApi(client).getCode().execute().getMinor().startsWith("37"), "version");
        check(new Discovery(client).findAll().size() > 60, "discovery");
        var proto = new ProtoClient(client);
        check(proto.list(V1.NamespaceList.newBuilder(), "/api/v1/namespaces").object.toString().contains("kube-system"), "protobuf");
        var sent = V1.Namespace.newBuilder().setMetadata(io.kubernetes.client.proto.Meta.ObjectMeta.newBuilder().setName(space + "-proto").build()).build();
        check(proto.create(sent, "/api/v1/namespaces", "v1", "Namespace").object.getMetadata().getName().equals(space + "-proto"), "created in protobuf");
        core.deleteNamespace(space + "-proto").execute();
    }

    static void watches(ApiClient client, String space) throws Exception {
        var core = new CoreV1Api(client);
        try (Watch<V1ConfigMap> watch = Watch.createWatch(client, core.listNamespacedConfigMap(space).labelSelector("app=w").watch(true).timeoutSeconds(30).buildCall(null), new TypeToken<Watch.Response<V1ConfigMap>>() {}.getType())) {
            core.createNamespacedConfigMap(space, map("w", "w")).execute();
            core.deleteNamespacedConfigMap("w", space).execute();
            for (String wanted : List.of("ADDED", "DELETED")) check(watch.next().type.equals(wanted), wanted);
        }
    }

    static void informs(ApiClient client, String space) throws Exception {
        var core = new CoreV1Api(client);
        var factory = new SharedInformerFactory(client);
        var api = new GenericKubernetesApi<>(V1ConfigMap.class, V1ConfigMapList.class, "", "v1", "configmaps", client);
        var informer = factory.sharedIndexInformerFor(api, V1ConfigMap.class, 0, space);
        var events = new LinkedBlockingQueue<String>();
        informer.addEventHandler(new ResourceEventHandler<>() {
            public void onAdd(V1ConfigMap m) { if (m.getMetadata().getName().equals("n")) events.add("add"); }
            public void onUpdate(V1ConfigMap a, V1ConfigMap m) { if (m.getMetadata().getName().equals("n")) events.add("update"); }
            public void onDelete(V1ConfigMap m, boolean unknown) { if (m.getMetadata().getName().equals("n")) events.add("delete"); }
        });
        factory.startAllRegisteredInformers();
        while (!informer.hasSynced()) Thread.sleep(20);
        var made = core.createNamespacedConfigMap(space, map("i", "n")).execute();
        core.replaceNamespacedConfigMap("n", space, made.putDataItem("k", "2")).execute();
        core.deleteNamespacedConfigMap("n", space).execute();
        for (String wanted : List.of("add", "update", "delete")) { var found = events.poll(30, TimeUnit.SECONDS); check(wanted.equals(found), found); }
        factory.stopAllRegisteredInformers();
    }

    static void leads(ApiClient client, String space) throws Exception {
        Configuration.setDefaultApiClient(client);
        var config = new LeaderElectionConfig(new LeaseLock(space, "official", "me", client), Duration.ofSeconds(5), Duration.ofSeconds(3), Duration.ofMillis(300));
        var leading = new CountDownLatch(1);
        try (var elector = new LeaderElector(config)) {
            var thread = new Thread(() -> elector.run(leading::countDown, () -> {}));
            thread.setDaemon(true); thread.start();
            check(leading.await(30, TimeUnit.SECONDS), "nobody leads");
            check("me".equals(new CoordinationV1Api(client).readNamespacedLease("official", space).execute().getSpec().getHolderIdentity()), "holder");
        }
    }

    static void streams(ApiClient client, String space) throws Exception {
        var core = new CoreV1Api(client);
        var box = new V1Pod().metadata(new V1ObjectMeta().name("box")).spec(new V1PodSpec().terminationGracePeriodSeconds(0L).addContainersItem(new V1Container().name("c").image("docker.io/portside/busybox:1")
            .command(List.of("sh", "-c", "echo ready; httpd -p 8080 -h /etc; sleep 3600"))));
        core.createNamespacedPod(space, box).execute();
        for (long end = System.nanoTime() + 90_000_000_000L; !"Running".equals(core.readNamespacedPod("box", space).execute().getStatus().getPhase()); Thread.sleep(100)) check(System.nanoTime() < end, "90 s");
        var process = new Exec(client).exec(space, "box", new String[] {"sh", "-c", "read x; echo got $x; exit 3"}, true, false);
        var printed = process.getInputStream();
        process.getOutputStream().write("hello\n".getBytes()); process.getOutputStream().flush();
        check(new String(printed.readNBytes(10)).equals("got hello\n"), "output");
        check(process.waitFor() == 3, "exit code");
        try (var log = new PodLogs(client).streamNamespacedPodLog(space, "box", "c")) { check(new java.io.BufferedReader(new java.io.InputStreamReader(log)).readLine().equals("ready"), "log"); }
        var forward = new PortForward(client).forward(space, "box", List.of(8080));
        forward.getOutboundStream(8080).write("GET /hostname HTTP/1.0\r\n\r\n".getBytes()); forward.getOutboundStream(8080).flush();
        var page = forward.getInputStream(8080).readNBytes(15); check(new String(page).startsWith("HTTP/1.1 200"), new String(page));
        new Copy(client).copyFileToPod(space, "box", "c", "copied".getBytes(), java.nio.file.Paths.get("/tmp/f.txt"));
        core.deleteNamespacedPod("box", space).execute();
    }

    public static void main(String[] words) throws Exception {
        var client = ClientBuilder.kubeconfig(KubeConfig.loadKubeConfig(new java.io.FileReader(System.getenv("KUBECONFIG")))).build();
        client.setReadTimeout(0);
        var steps = new LinkedHashMap<String, Step>();
        steps.put("objects", Official::objects); steps.put("watches", Official::watches); steps.put("informs", Official::informs); steps.put("leads", Official::leads);
        if (words.length > 1) steps.put("streams", Official::streams);
        for (var step : steps.entrySet()) {
            String error = "";
            try { step.getValue().run(client, words[0]); } catch (Throwable e) { error = e.toString() + (e instanceof ApiException a ? a.getResponseBody() : ""); if (System.getenv("TRACE") != null) e.printStackTrace(); }
            System.out.println("{\"step\": \"" + step.getKey() + "\", \"error\": \"" + error.replace("\\", "\\\\").replace("\"", "'").replace("\n", " ") + "\"}");
        }
        System.exit(0);
    }
}
