//! What operators written with kube-rs do, one step after the other; a JSON line for each.
//!
//!     rustclient NAMESPACE [exec]
//!
//! The kubeconfig comes from KUBECONFIG. `exec` adds what needs real containers.
use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::{
    apps::v1::Deployment,
    coordination::v1::Lease,
    core::v1::{ConfigMap, Namespace, Node, Pod, Secret},
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, CustomResource, CustomResourceExt, ResourceExt,
    api::{
        ApiResource, AttachParams, DeleteParams, DynamicObject, ListParams, LogParams, Patch, PatchParams, PostParams,
        WatchEvent, WatchParams,
    },
    core::GroupVersionKind,
    discovery::{Discovery, Scope},
    runtime::{
        Controller, WatchStreamExt,
        controller::Action,
        reflector,
        wait::{await_condition, conditions},
        watcher,
    },
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Done = Result<(), Failure>;

#[derive(CustomResource, Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[kube(group = "rust.example.com", version = "v1", kind = "Boat", namespaced, status = "BoatStatus", shortname = "bt")]
#[kube(printcolumn = r#"{"name":"Length", "type":"integer", "jsonPath":".spec.length"}"#)]
struct BoatSpec {
    length: i32,
    #[serde(default)]
    name: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
struct BoatStatus {
    afloat: bool,
}

fn check(holds: bool, what: impl Into<String>) -> Done {
    if holds { Ok(()) } else { Err(what.into().into()) }
}

async fn within<T>(seconds: u64, what: &str, work: impl Future<Output = T>) -> Result<T, Failure> {
    tokio::time::timeout(Duration::from_secs(seconds), work).await.map_err(|_| format!("{what} took over {seconds} s").into())
}

fn map(name: &str, value: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name, "labels": {"app": "rust"}}, "data": {"k": value}})).unwrap()
}

async fn objects(client: Client, space: String) -> Done {
    let maps: Api<ConfigMap> = Api::namespaced(client, &space);
    let made = maps.create(&PostParams::default(), &map("a", "1")).await?;
    check(made.uid().is_some() && made.resource_version().is_some(), "created without a uid")?;
    let twice = maps.create(&PostParams::default(), &map("a", "1")).await;
    check(matches!(&twice, Err(kube::Error::Api(e)) if e.code == 409 && e.reason == "AlreadyExists"), format!("{twice:?}"))?;
    let merged = maps.patch("a", &PatchParams::default(), &Patch::Merge(json!({"data": {"m": "2"}}))).await?;
    check(merged.data.as_ref().is_some_and(|d| d.len() == 2), "a merge patch adds")?;
    let mut stale = made.clone();
    stale.data = Some(BTreeMap::from([("k".into(), "x".into())]));
    let refused = maps.replace("a", &PostParams::default(), &stale).await;
    check(matches!(&refused, Err(kube::Error::Api(e)) if e.reason == "Conflict"), format!("{refused:?}"))?;
    let dry = PostParams { dry_run: true, ..Default::default() };
    maps.create(&dry, &map("dry", "1")).await?;
    check(maps.get_opt("dry").await?.is_none(), "a dry run writes nothing")?;
    let meta = maps.get_metadata("a").await?;
    check(meta.metadata.uid == made.metadata.uid, "metadata alone")?;
    let listed = maps.list_metadata(&ListParams::default().labels("app=rust")).await?;
    check(listed.items.len() == 1, format!("{} with metadata alone", listed.items.len()))?;
    for n in 0..5 {
        maps.create(&PostParams::default(), &map(&format!("page-{n}"), "1")).await?;
    }
    let mut found = 0;
    let mut pages = ListParams::default().labels("app=rust").limit(2);
    loop {
        let page = maps.list(&pages).await?;
        found += page.items.len();
        match page.metadata.continue_.filter(|t| !t.is_empty()) {
            Some(token) => pages = pages.continue_token(&token),
            None => break,
        }
    }
    check(found == 6, format!("{found} of 6 in pages"))?;
    maps.delete_collection(&DeleteParams::default(), &ListParams::default().labels("app=rust")).await?;
    check(maps.list(&ListParams::default().labels("app=rust")).await?.items.is_empty(), "a collection is deleted")
}

async fn apply(client: Client, space: String) -> Done {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &space);
    let body = |v: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"k": v}});
    maps.patch("applied", &PatchParams::apply("one"), &Patch::Apply(body("1"))).await?;
    let other = maps.patch("applied", &PatchParams::apply("two"), &Patch::Apply(body("2"))).await;
    check(matches!(&other, Err(kube::Error::Api(e)) if e.code == 409), format!("{other:?}"))?;
    let forced = maps.patch("applied", &PatchParams::apply("two").force(), &Patch::Apply(body("2"))).await?;
    check(forced.data.unwrap_or_default()["k"] == "2", "forced")?;
    let deployments: Api<Deployment> = Api::namespaced(client, &space);
    let spec = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {
        "replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "docker.io/portside/busybox:1", "command": ["sleep", "3600"]}]}}}});
    deployments.patch("web", &PatchParams::apply("rust"), &Patch::Apply(spec)).await?;
    let ready = await_condition(deployments.clone(), "web", conditions::is_deployment_completed());
    within(90, "the deployment", ready).await??;
    let scale = deployments.get_scale("web").await?;
    check(scale.spec.and_then(|s| s.replicas) == Some(2), "the scale")?;
    deployments.patch_scale("web", &PatchParams::default(), &Patch::Merge(json!({"spec": {"replicas": 1}}))).await?;
    deployments.restart("web").await?;
    let ready = await_condition(deployments, "web", conditions::is_deployment_completed());
    within(90, "the restart", ready).await??;
    Ok(())
}

async fn watches(client: Client, space: String) -> Done {
    let maps: Api<ConfigMap> = Api::namespaced(client, &space);
    let mut stream = maps.watch(&WatchParams::default().labels("app=rust"), "0").await?.boxed();
    maps.create(&PostParams::default(), &map("seen", "1")).await?;
    maps.delete("seen", &DeleteParams::default()).await?;
    let mut seen = Vec::new();
    while seen.len() < 2 {
        match within(30, "a watch", stream.try_next()).await?? {
            Some(WatchEvent::Added(_)) => seen.push("added"),
            Some(WatchEvent::Deleted(_)) => seen.push("deleted"),
            other => return Err(format!("{other:?}").into()),
        }
    }
    check(seen == ["added", "deleted"], format!("{seen:?}"))
}

/// A store that follows the API; `lists` starts with a list and a watch, else with a streaming list.
async fn follow(client: Client, space: String, config: watcher::Config) -> Done {
    let maps: Api<ConfigMap> = Api::namespaced(client, &space);
    let (reader, writer) = reflector::store();
    let stream = reflector(writer, watcher(maps.clone(), config.labels("app=rust"))).touched_objects();
    let task = tokio::spawn(async move { stream.try_for_each(|_| async { Ok(()) }).await });
    within(30, "the first list", reader.wait_until_ready()).await??;
    maps.create(&PostParams::default(), &map("stored", "1")).await?;
    let there = |wanted: usize| {
        let reader = reader.clone();
        async move {
            while reader.state().len() != wanted {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    within(30, "an object in the store", there(1)).await?;
    maps.delete("stored", &DeleteParams::default()).await?;
    within(30, "its end in the store", there(0)).await?;
    task.abort();
    Ok(())
}

async fn reflects(client: Client, space: String) -> Done {
    follow(client.clone(), space.clone(), watcher::Config::default()).await?;
    follow(client, space, watcher::Config::default().streaming_lists()).await
}

struct Harbour {
    client: Client,
    space: String,
}

async fn float(boat: Arc<Boat>, harbour: Arc<Harbour>) -> Result<Action, kube::Error> {
    let boats: Api<Boat> = Api::namespaced(harbour.client.clone(), &harbour.space);
    let maps: Api<ConfigMap> = Api::namespaced(harbour.client.clone(), &harbour.space);
    let mut log = map(&boat.name_any(), &boat.spec.length.to_string());
    log.metadata.managed_fields = None;
    log.metadata.owner_references = kube::Resource::controller_owner_ref(&*boat, &()).map(|o| vec![o]);
    let params = PatchParams::apply("harbour").force();
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": log.metadata, "data": log.data});
    maps.patch(&boat.name_any(), &params, &Patch::Apply(body)).await?;
    let status = json!({"apiVersion": "rust.example.com/v1", "kind": "Boat", "status": {"afloat": true}});
    boats.patch_status(&boat.name_any(), &params, &Patch::Apply(status)).await?;
    Ok(Action::await_change())
}

async fn controls(client: Client, space: String) -> Done {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    definitions.patch("boats.rust.example.com", &PatchParams::apply("rust").force(), &Patch::Apply(Boat::crd())).await?;
    let established = await_condition(definitions.clone(), "boats.rust.example.com", conditions::is_crd_established());
    within(30, "the definition", established).await??;
    let boats: Api<Boat> = Api::namespaced(client.clone(), &space);
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &space);
    let harbour = Arc::new(Harbour { client: client.clone(), space });
    let controller = Controller::new(boats.clone(), watcher::Config::default())
        .owns(maps.clone(), watcher::Config::default())
        .run(float, |_, _, _| Action::requeue(Duration::from_millis(200)), harbour)
        .for_each(|_| async {});
    let task = tokio::spawn(controller);
    boats.create(&PostParams::default(), &Boat::new("tug", BoatSpec { length: 12, name: None })).await?;
    let afloat = await_condition(boats.clone(), "tug", |b: Option<&Boat>| {
        b.and_then(|b| b.status.as_ref()).is_some_and(|s| s.afloat)
    });
    within(60, "the boat", afloat).await??;
    check(maps.get("tug").await?.data.unwrap_or_default()["k"] == "12", "the log of the boat")?;
    let wrong = boats.create(&PostParams::default(), &serde_json::from_value(json!({
        "apiVersion": "rust.example.com/v1", "kind": "Boat", "metadata": {"name": "w"}, "spec": {"length": 1}}))?).await;
    check(wrong.is_ok(), format!("{wrong:?}"))?;
    boats.delete("tug", &DeleteParams::default()).await?;
    let gone = await_condition(maps, "tug", |m: Option<&ConfigMap>| m.is_none());
    within(60, "its log's end", gone).await??;
    task.abort();
    let uid = definitions.get("boats.rust.example.com").await?.uid().unwrap_or_default();
    definitions.delete("boats.rust.example.com", &DeleteParams::default()).await?;
    let gone = await_condition(definitions, "boats.rust.example.com", conditions::is_deleted(&uid));
    within(60, "the definition's end", gone).await??;
    Ok(())
}

async fn discovers(client: Client, space: String) -> Done {
    check(client.apiserver_version().await?.minor.starts_with("37"), "the version")?;
    for found in [Discovery::new(client.clone()).run().await?, Discovery::new(client.clone()).run_aggregated().await?] {
        check(found.groups().count() > 15, format!("{} groups", found.groups().count()))?;
        let gvk = GroupVersionKind::gvk("apps", "v1", "Deployment");
        let (resource, capabilities) = found.resolve_gvk(&gvk).ok_or("no deployments")?;
        check(resource.plural == "deployments" && capabilities.scope == Scope::Namespaced, format!("{resource:?}"))?;
    }
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Secret"));
    let secrets: Api<DynamicObject> = Api::namespaced_with(client.clone(), &space, &resource);
    let body = serde_json::from_value(json!({"metadata": {"name": "s"}, "stringData": {"a": "b"}}))?;
    secrets.create(&PostParams::default(), &body).await?;
    let typed: Api<Secret> = Api::namespaced(client.clone(), &space);
    check(typed.get("s").await?.data.unwrap_or_default()["a"].0 == b"b", "a secret's data")?;
    let spaces: Api<Namespace> = Api::all(client.clone());
    check(spaces.get(&space).await?.status.and_then(|s| s.phase).as_deref() == Some("Active"), "the namespace")?;
    let nodes: Api<Node> = Api::all(client.clone());
    let node = nodes.list(&ListParams::default()).await?.items.remove(0);
    nodes.cordon(&node.name_any()).await?;
    nodes.uncordon(&node.name_any()).await?;
    let leases: Api<Lease> = Api::namespaced(client.clone(), &space);
    let now = "2026-01-01T00:00:00.123456Z";
    let lease = serde_json::from_value(json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "me", "renewTime": now}}))?;
    let made = leases.create(&PostParams::default(), &lease).await?;
    check(serde_json::to_value(made.spec)?["renewTime"] == now, "microseconds")?;
    let request = http::Request::get("/readyz").body(Vec::new())?;
    check(client.request_text(request).await? == "ok", "raw requests")
}

async fn streams(client: Client, space: String) -> Done {
    let pods: Api<Pod> = Api::namespaced(client, &space);
    let pod = serde_json::from_value(json!({"metadata": {"name": "box"}, "spec": {"terminationGracePeriodSeconds": 0, "containers": [{
        "name": "c", "image": "docker.io/portside/busybox:1", "stdin": true,
        "command": ["sh", "-c", "echo ready; httpd -p 8080 -h /etc; read line; echo got $line; sleep 3600"]}]}}))?;
    pods.create(&PostParams::default(), &pod).await?;
    within(90, "the pod", await_condition(pods.clone(), "box", conditions::is_pod_running())).await??;
    let mut ran = pods.exec("box", ["sh", "-c", "cat; echo err >&2; exit 3"], &AttachParams::default().stdin(true)).await?;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (mut stdin, mut stdout, mut stderr) = (ran.stdin().unwrap(), ran.stdout().unwrap(), ran.stderr().unwrap());
    let status = ran.take_status().unwrap();
    stdin.write_all(b"hello").await?;
    stdin.shutdown().await?;
    drop(stdin);
    let (mut out, mut err) = (String::new(), String::new());
    within(30, "exec", async { tokio::try_join!(stdout.read_to_string(&mut out), stderr.read_to_string(&mut err)) }).await??;
    check(out == "hello" && err == "err\n", format!("{out:?} {err:?}"))?;
    let status = status.await.ok_or("no status")?;
    check(status.reason.as_deref() == Some("NonZeroExitCode"), format!("{status:?}"))?;
    ran.join().await?;
    let mut attached = pods.attach("box", &AttachParams::default().stdin(true)).await?;
    attached.stdin().unwrap().write_all(b"you\n").await?;
    let mut lines = pods.log_stream("box", &LogParams { follow: true, ..Default::default() }).await?;
    let mut text = Vec::new();
    within(30, "the log", async {
        let mut buffer = [0u8; 256];
        while !String::from_utf8_lossy(&text).contains("got you") {
            let size = futures::AsyncReadExt::read(&mut lines, &mut buffer).await?;
            text.extend_from_slice(&buffer[..size]);
        }
        Ok::<(), std::io::Error>(())
    })
    .await??;
    attached.abort();
    let mut forward = pods.portforward("box", &[8080]).await?;
    let mut stream = forward.take_stream(8080).unwrap();
    stream.write_all(b"GET /hostname HTTP/1.0\r\n\r\n").await?;
    let mut answer = String::new();
    within(30, "the forwarded port", stream.read_to_string(&mut answer)).await??;
    check(answer.contains("200 OK") && answer.contains("box"), answer)?;
    pods.delete("box", &DeleteParams::default()).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().collect();
    let client = Client::try_default().await?;
    macro_rules! step {
        ($run:ident) => {
            let failed = $run(client.clone(), words[1].clone()).await.err().map(|e| e.to_string());
            println!("{}", json!({"step": stringify!($run), "error": failed.unwrap_or_default()}));
        };
    }
    step!(objects);
    step!(apply);
    step!(watches);
    step!(reflects);
    step!(controls);
    step!(discovers);
    if words.get(2).is_some_and(|w| w == "exec") {
        step!(streams);
    }
    Ok(())
}
