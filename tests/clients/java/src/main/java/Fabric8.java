import io.fabric8.kubernetes.api.model.*;
import io.fabric8.kubernetes.api.model.apiextensions.v1.*;
import io.fabric8.kubernetes.api.model.apps.*;
import io.fabric8.kubernetes.client.*;
import io.fabric8.kubernetes.client.dsl.*;
import io.fabric8.kubernetes.client.dsl.base.*;
import io.fabric8.kubernetes.client.extended.leaderelection.*;
import io.fabric8.kubernetes.client.extended.leaderelection.resourcelock.LeaseLock;
import io.fabric8.kubernetes.client.informers.*;
import java.io.*;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;

/** What operators written with fabric8's client do, one step after the other; a JSON line for each. */
public class Fabric8 {
    interface Step { void run(KubernetesClient client, String space) throws Exception; }

    static void check(boolean holds, Object what) { if (!holds) throw new IllegalStateException(String.valueOf(what)); }

    static ConfigMap map(String name, String value) { return mapOf("java", name, value); }

    static ConfigMap mapOf(String app, String name, String value) {
        return new ConfigMapBuilder().withNewMetadata().withName(name).addToLabels("app", app).endMetadata().addToData("k", value).build();
    }

    static void until(Callable<Boolean> what, String name) throws Exception {
        long end = System.nanoTime() + Duration.ofSeconds(60).toNanos();
        while (!what.call()) { check(System.nanoTime() < end, name + " took over 60 s"); Thread.sleep(20); }
    }

    static void objects(KubernetesClient client, String space) {
        var maps = client.configMaps().inNamespace(space);
        var made = maps.resource(map("a", "1")).create();
        check(made.getMetadata().getUid() != null, made);
        try { maps.resource(map("a", "1")).create(); check(false, "created twice"); }
        catch (KubernetesClientException e) { check(e.getCode() == 409 && e.getStatus().getReason().equals("AlreadyExists"), e); }
        var edited = maps.withName("a").edit(m -> new ConfigMapBuilder(m).addToData("e", "2").build());
        check(edited.getData().size() == 2, edited);
        var stale = new ConfigMapBuilder(made).addToData("s", "3").build();
        try { maps.resource(stale).lockResourceVersion(made.getMetadata().getResourceVersion()).update(); check(false, "stale"); }
        catch (KubernetesClientException e) { check(e.getCode() == 409, e); }
        maps.withName("a").patch(PatchContext.of(PatchType.JSON_MERGE), "{\"data\":{\"m\":\"4\"}}");
        maps.withName("a").patch(PatchContext.of(PatchType.STRATEGIC_MERGE), "{\"metadata\":{\"labels\":{\"x\":\"y\"}}}");
        maps.withName("a").patch(PatchContext.of(PatchType.JSON), "[{\"op\":\"add\",\"path\":\"/data/j\",\"value\":\"5\"}]");
        check(maps.withName("a").get().getData().size() == 4, "patches");
        for (int i = 0; i < 5; i++) maps.resource(map("page-" + i, "1")).create();
        int count = 0; String token = null;
        do {
            var page = maps.withLabel("app", "java").list(new ListOptionsBuilder().withLimit(2L).withContinue(token).build());
            count += page.getItems().size(); token = page.getMetadata().getContinue();
        } while (token != null && !token.isEmpty());
        check(count == 6, count + " in pages");
        maps.withLabel("app", "java").withGracePeriod(0).delete();
        check(maps.withLabel("app", "java").list().getItems().isEmpty(), "a collection is deleted");
        var invalid = new PodBuilder().withNewMetadata().withName("x").endMetadata().withNewSpec().endSpec().build();
        try { client.pods().inNamespace(space).resource(invalid).create(); check(false, "a pod of nothing"); }
        catch (KubernetesClientException e) { check(e.getCode() == 422 && !e.getStatus().getDetails().getCauses().isEmpty(), e); }
    }

    static void apply(KubernetesClient client, String space) throws Exception {
        var maps = client.configMaps().inNamespace(space);
        var one = maps.resource(map("applied", "1")).fieldManager("one").serverSideApply();
        check(one.getMetadata().getManagedFields().size() == 1, one);
        try { maps.resource(map("applied", "2")).fieldManager("two").serverSideApply(); check(false, "somebody else's field"); }
        catch (KubernetesClientException e) { check(e.getCode() == 409 && e.getStatus().getDetails().getCauses().get(0).getReason().equals("FieldManagerConflict"), e); }
        check(maps.resource(map("applied", "2")).fieldManager("two").forceConflicts().serverSideApply().getData().get("k").equals("2"), "forced");
        var deployment = new DeploymentBuilder().withNewMetadata().withName("web").endMetadata().withNewSpec().withReplicas(2)
            .withNewSelector().addToMatchLabels("app", "web").endSelector().withNewTemplate().withNewMetadata().addToLabels("app", "web").endMetadata()
            .withNewSpec().addNewContainer().withName("c").withImage("docker.io/portside/busybox:1").withCommand("sleep", "3600").endContainer().endSpec().endTemplate().endSpec().build();
        var deployments = client.apps().deployments().inNamespace(space);
        deployments.resource(deployment).serverSideApply();
        deployments.withName("web").waitUntilReady(90, TimeUnit.SECONDS);
        check(deployments.withName("web").scale(3).getSpec().getReplicas() == 3, "scaled");
        deployments.withName("web").rolling().restart();
        deployments.withName("web").waitUntilCondition(d -> d.getStatus() != null && Objects.equals(d.getStatus().getUpdatedReplicas(), 3)
            && Objects.equals(d.getStatus().getObservedGeneration(), d.getMetadata().getGeneration()), 90, TimeUnit.SECONDS);
        deployments.withName("web").delete();
    }

    static void watches(KubernetesClient client, String space) throws Exception {
        var seen = new LinkedBlockingQueue<String>();
        var watcher = new Watcher<ConfigMap>() {
            public void eventReceived(Action action, ConfigMap m) { seen.add(action + " " + m.getMetadata().getName()); }
            public void onClose(WatcherException cause) { seen.add("closed " + cause); }
            public void onClose() { seen.add("closed"); }
        };
        try (Watch watch = client.configMaps().inNamespace(space).withLabel("app", "watch").watch(watcher)) {
            client.configMaps().inNamespace(space).resource(mapOf("watch", "seen", "1")).create();
            client.configMaps().inNamespace(space).withName("seen").delete();
            for (String wanted : List.of("ADDED seen", "DELETED seen")) {
                String found = seen.poll(30, TimeUnit.SECONDS);
                check(wanted.equals(found), found);
            }
        }
        check("closed".equals(seen.poll(30, TimeUnit.SECONDS)), "closed");
    }

    static void informs(KubernetesClient client, String space) throws Exception {
        var events = new LinkedBlockingQueue<String>();
        var handler = new ResourceEventHandler<ConfigMap>() {
            public void onAdd(ConfigMap m) { events.add("add " + m.getMetadata().getName()); }
            public void onUpdate(ConfigMap a, ConfigMap m) { events.add("update " + m.getMetadata().getName()); }
            public void onDelete(ConfigMap m, boolean unknown) { events.add("delete " + m.getMetadata().getName()); }
        };
        try (SharedIndexInformer<ConfigMap> informer = client.configMaps().inNamespace(space).withLabel("app", "inform").inform(handler)) {
            check(informer.hasSynced(), "synced");
            var maps = client.configMaps().inNamespace(space);
            maps.resource(mapOf("inform", "news", "1")).create();
            maps.withName("news").edit(m -> new ConfigMapBuilder(m).addToData("k", "2").build());
            maps.withName("news").delete();
            for (String wanted : List.of("add news", "update news", "delete news")) {
                String found = events.poll(30, TimeUnit.SECONDS);
                check(wanted.equals(found), found);
            }
        }
    }

    static void leads(KubernetesClient client, String space) throws Exception {
        var leading = new CountDownLatch(1);
        var config = new LeaderElectionConfigBuilder().withName("java").withLock(new LeaseLock(space, "java", "me"))
            .withLeaseDuration(Duration.ofSeconds(6)).withRenewDeadline(Duration.ofSeconds(4)).withRetryPeriod(Duration.ofMillis(300)).withReleaseOnCancel(true)
            .withLeaderCallbacks(new LeaderCallbacks(leading::countDown, () -> {}, id -> {})).build();
        var elector = client.leaderElector().withConfig(config).build();
        var running = elector.start();
        check(leading.await(30, TimeUnit.SECONDS), "nobody leads");
        check("me".equals(client.leases().inNamespace(space).withName("java").get().getSpec().getHolderIdentity()), "the holder");
        running.cancel(true);
        // fabric8 gives a lease up by a merge patch that makes it last a second, and leaves its holder.
        until(() -> client.leases().inNamespace(space).withName("java").get().getSpec().getLeaseDurationSeconds() == 1, "the release");
    }

    static void customs(KubernetesClient client, String space) throws Exception {
        var schema = new JSONSchemaPropsBuilder().withType("object").addToProperties("spec", new JSONSchemaPropsBuilder().withType("object").withXKubernetesPreserveUnknownFields(true).build()).build();
        var crd = new CustomResourceDefinitionBuilder().withNewMetadata().withName("cars.java.example.com").endMetadata().withNewSpec().withGroup("java.example.com")
            .withScope("Namespaced").withNewNames().withKind("Car").withPlural("cars").withSingular("car").endNames()
            .addNewVersion().withName("v1").withServed(true).withStorage(true).withNewSchema().withOpenAPIV3Schema(schema).endSchema().endVersion().endSpec().build();
        var definitions = client.apiextensions().v1().customResourceDefinitions();
        definitions.resource(crd).serverSideApply();
        definitions.withName("cars.java.example.com").waitUntilCondition(c -> c != null && c.getStatus() != null && c.getStatus().getConditions().stream().anyMatch(x -> x.getType().equals("Established") && x.getStatus().equals("True")), 30, TimeUnit.SECONDS);
        var context = new ResourceDefinitionContext.Builder().withGroup("java.example.com").withVersion("v1").withKind("Car").withPlural("cars").withNamespaced(true).build();
        var car = new GenericKubernetesResourceBuilder().withApiVersion("java.example.com/v1").withKind("Car").withNewMetadata().withName("c").endMetadata().addToAdditionalProperties("spec", Map.of("doors", 5)).build();
        var cars = client.genericKubernetesResources(context).inNamespace(space);
        cars.resource(car).create();
        check(cars.withName("c").get().<Object>get("spec", "doors").equals(5), "doors");
        client.resource(car).inNamespace(space).delete();
        until(() -> cars.withName("c").get() == null, "its end");
        definitions.withName("cars.java.example.com").delete();
        check(client.getApiGroups().getGroups().size() > 15, "groups");
        check(client.getKubernetesVersion().getMinor().startsWith("37"), client.getKubernetesVersion().getMinor());
    }

    static void streams(KubernetesClient client, String space) throws Exception {
        var pod = new PodBuilder().withNewMetadata().withName("box").endMetadata().withNewSpec().withTerminationGracePeriodSeconds(0L).addNewContainer().withName("c")
            .withImage("docker.io/portside/busybox:1").withCommand("sh", "-c", "echo ready; httpd -p 8080 -h /etc; while true; do date; sleep 1; done").endContainer().endSpec().build();
        var box = client.pods().inNamespace(space).resource(pod);
        box.create();
        box.waitUntilReady(90, TimeUnit.SECONDS);
        var out = new ByteArrayOutputStream(); var err = new ByteArrayOutputStream();
        try (ExecWatch ran = box.writingOutput(out).writingError(err).exec("sh", "-c", "echo hello; echo err >&2; exit 3")) {
            check(ran.exitCode().get(30, TimeUnit.SECONDS) == 3, "the exit code");
        }
        check(out.toString().equals("hello\n") && err.toString().equals("err\n"), out + " " + err);
        var fed = new ByteArrayOutputStream();
        try (ExecWatch ran = box.redirectingInput().writingOutput(fed).withTTY().exec("sh")) {
            ran.getInput().write("echo $((6*7)); exit\n".getBytes()); ran.getInput().flush();
            ran.exitCode().get(30, TimeUnit.SECONDS);
        }
        check(fed.toString().contains("42"), fed);
        check(box.getLog().startsWith("ready"), "the log");
        try (LogWatch log = box.watchLog()) {
            check(new BufferedReader(new InputStreamReader(log.getOutput())).readLine().equals("ready"), "the followed log");
        }
        try (LocalPortForward forward = box.portForward(8080); var socket = new java.net.Socket("127.0.0.1", forward.getLocalPort())) {
            socket.getOutputStream().write("GET /hostname HTTP/1.0\r\n\r\n".getBytes());
            check(new String(socket.getInputStream().readAllBytes()).contains("200 OK"), "the forwarded port");
        }
        var file = File.createTempFile("fabric8", ".txt");
        java.nio.file.Files.writeString(file.toPath(), "copied");
        check(box.file("/tmp/f.txt").upload(file.toPath()), "uploaded");
        try (InputStream read = box.file("/tmp/f.txt").read()) { check(new String(read.readAllBytes(), StandardCharsets.UTF_8).equals("copied"), "read back"); }
        box.delete();
    }

    public static void main(String[] words) throws Exception {
        var steps = new LinkedHashMap<String, Step>();
        steps.put("objects", Fabric8::objects); steps.put("apply", Fabric8::apply); steps.put("watches", Fabric8::watches);
        steps.put("informs", Fabric8::informs); steps.put("leads", Fabric8::leads); steps.put("customs", Fabric8::customs);
        if (words.length > 1) steps.put("streams", Fabric8::streams);
        try (KubernetesClient client = new KubernetesClientBuilder().build()) {
            for (var step : steps.entrySet()) {
                String error = "";
                try { step.getValue().run(client, words[0]); } catch (Throwable e) { error = e.toString(); if (System.getenv("TRACE") != null) e.printStackTrace(); }
                System.out.println("{\"step\": \"" + step.getKey() + "\", \"error\": \"" + error.replace("\\", "\\\\").replace("\"", "'").replace("\n", " ") + "\"}");
            }
        }
        System.exit(0);
    }
}
