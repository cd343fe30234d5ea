//! What a server says of itself at `/metrics`, beside what is measured of it.

use crate::{
    command::run_at,
    reply::{MODEL, healthy},
    server::Server,
};

const BATCH: [&str; 5] = ["batch", "--model", MODEL, "--count", "3"];

#[test]
fn the_servers_own_figures_stand_beside_the_clients() {
    let server = Server::start(healthy);
    server.show_metrics(&[
        "vllm:num_requests_running{engine=\"0\"} 0\nvllm:num_preemptions_total{engine=\"0\"} 4\n\
         vllm:time_to_first_token_seconds_sum 2\nvllm:time_to_first_token_seconds_count 2\n\
         vllm:prefix_cache_queries_total 10\nvllm:prefix_cache_hits_total 0\n",
        "vllm:num_requests_running{engine=\"0\"} 5\nvllm:num_preemptions_total{engine=\"0\"} 7\n\
         vllm:time_to_first_token_seconds_sum 2.5\nvllm:time_to_first_token_seconds_count 4\n\
         vllm:prefix_cache_queries_total 50\nvllm:prefix_cache_hits_total 30\n",
    ]);
    let ran = run_at(server.port, &BATCH);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let result = ran.result();
    let [metrics] = &result.server_metrics[..] else { panic!("{:?}", result.server_metrics) };
    assert_eq!((metrics.preemptions, metrics.ttft_mean_ms), (Some(3.0), Some(250.0)));
    assert_eq!((metrics.prefix_hit_share, metrics.queue_mean_ms), (Some(0.75), None));
    assert_eq!(metrics.samples.first().unwrap().running, Some(0.0));
    assert_eq!(metrics.samples.last().unwrap().running, Some(5.0));
    assert!(ran.stderr.contains("3 preemptions, prefix hits 75 %"), "{}", ran.stderr);
    let here = format!("TTFT 250.00 (here {:.2})", result.summary.ttft_ms.unwrap().mean);
    assert!(ran.stderr.contains(&here), "{}", ran.stderr);
}

#[test]
fn a_server_without_them_or_that_is_not_to_be_asked_has_none() {
    let server = Server::start(healthy);
    assert!(run_at(server.port, &BATCH).result().server_metrics.is_empty());
    server.show_metrics(&["vllm:num_requests_running 1\n"]);
    let ran = run_at(server.port, &[&BATCH[..], &["--no-server-metrics"]].concat());
    assert!(ran.result().server_metrics.is_empty() && !ran.stderr.contains("running 1"));
}
