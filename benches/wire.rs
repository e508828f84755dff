//! Messages, encoded and decoded.

use std::hint::black_box;

use criterion::Criterion;
use like_protocol::codec;
use like_protocol::message::{Reply, ReplyBody, Request, RequestBody, StepReply};

use crate::participant::steps;

pub fn bench(criterion: &mut Criterion) {
    let body = RequestBody::Step(steps(1).remove(0));
    let request = Request { id: 70_000, body };
    let encoded = codec::encode(&request).expect("bytes").0;
    let mut group = criterion.benchmark_group("codec");
    group
        .bench_function("a step, encoded", |b| b.iter(|| codec::encode(black_box(&request)).expect("bytes")));
    group.bench_function("a step, decoded", |b| {
        b.iter(|| codec::decode::<Request>(black_box(&encoded)).expect("a request"));
    });
    let reply = codec::encode(&[7_u8; 16]).expect("bytes");
    let reply = Reply { id: 70_000, body: ReplyBody::Step(StepReply::Done(reply)) };
    let encoded = codec::encode(&reply).expect("bytes").0;
    group.bench_function("its reply, decoded", |b| {
        b.iter(|| codec::decode::<Reply>(black_box(&encoded)).expect("a reply"));
    });
    group.finish();
}
