//! Beginnings of conversations that lead to where few random bytes would: something waits for an answer, a
//! stream is open, a bound is reached. What fuzzing adds is the rest.
//!
//! Owns the beginnings. Trap: inputs name them by number, so a new one goes to the end.

use crate::{
    input::{
        Answer, Ask, Delivery, Extra, Host, Kind, Message, Meta, Number, Reading, Ref, RpcId, Step,
        Text, Uri, Version, Word,
    },
    render::tool,
};

/// The beginning of that number; nothing for the first, and for those that there are not.
pub fn beginning(number: u8) -> Vec<Step> {
    let stories: &[&[fn() -> Step]] = &[
        &[],
        &[initialize],
        &[initialize, || meanwhile(get())],
        // A session with a value that is watched on its stream.
        &[initialize, || meanwhile(get()), watch, store],
        // Questions on the stream of a call.
        &[initialize, ready, || meanwhile(called("test_sampling"))],
        &[initialize, ready, || meanwhile(called("test_elicitation"))],
        &[initialize, ready, || meanwhile(called("test_list_roots"))],
        &[initialize, ready, || meanwhile(called("test_input_required_result_multi_round"))],
        &[initialize, || meanwhile(called("test_reconnection"))],
        // Calls that take time.
        &[initialize, || meanwhile(slow())],
        &[initialize, || meanwhile(called("stream_ticks"))],
        // Questions as results.
        &[|| modern("test_input_required_result_multi_round")],
        &[|| modern("test_input_required_result_request_state")],
        &[|| modern("test_input_required_result_multiple_inputs")],
        &[|| modern("test_elicitation")],
        &[prompt],
        // Tasks.
        &[|| modern("confirm_delete")],
        &[|| modern("multi_input")],
        &[|| modern("slow_compute")],
        &[|| modern("test_tool_with_task"), || again("ok")],
        &[|| modern("confirm_delete"), task],
        // Handles.
        &[|| modern("create_session")],
        &[|| modern("create_session"), || meanwhile(listen())],
        // Where little is allowed.
        &[|| at(5, initialize()), initialize],
        &[|| at(5, initialize()), || meanwhile(get())],
        &[|| at(5, modern("slow_compute"))],
        &[|| at(5, meanwhile(listen()))],
        &[|| at(5, initialize()), || meanwhile(get()), get],
        // Questions that are answered.
        &[|| modern("test_list_roots"), || again("ok")],
        &[|| modern("test_streaming_elicitation"), || again("ok")],
        &[|| modern("test_elicitation_sep1034_defaults"), || again("ok")],
        &[|| modern("test_input_required_result_sampling"), || again("ok")],
        &[|| modern("test_input_required_result_list_roots"), || again("ok")],
        &[|| modern("test_input_required_result_tampered_state"), || again("ok")],
        &[|| modern("test_input_required_result_multi_round"), || again("ok"), || again("ok")],
        &[|| modern("confirm_delete"), task, || answered(1), task],
        // Work that is no longer wanted.
        &[|| modern("slow_compute"), || answered(2), task],
        &[initialize, || meanwhile(slow()), cancel],
        &[|| modern("test_input_required_result_request_state"), || again("ok")],
        &[|| modern("test_elicitation"), || again("ok")],
        &[|| modern("test_elicitation_sep1330_enums"), || again("ok")],
        &[|| modern("test_input_required_result_multiple_inputs"), || again("ok")],
        &[initialize, ready, || meanwhile(called("test_elicitation")), reply],
    ];
    stories
        .get(usize::from(number))
        .into_iter()
        .flat_map(|story| *story)
        .map(|step| step())
        .collect()
}

fn step(ask: Ask) -> Step {
    Step {
        host: Host::Same,
        proxied: false,
        ask,
        headers: vec![],
        spoils: vec![],
        delivery: Delivery::Whole,
        reading: Reading::Whole,
    }
}

fn at(instance: u8, step: Step) -> Step {
    Step { host: Host::Instance(instance), ..step }
}

fn meanwhile(step: Step) -> Step {
    Step { reading: Reading::Meanwhile, ..step }
}

fn initialize() -> Step {
    step(Ask::Initialize { version: Version::V2025_11_25, unable: 0, client: None })
}

fn get() -> Step {
    step(Ask::Get { session: Some(Ref::Known(0)), after: None })
}

fn message(kind: Kind) -> Message {
    let extra = Extra { progress: None, answers: vec![], answer: None, state: None, meta: vec![] };
    Message { kind, id: RpcId::Small(7), extra }
}

fn sessioned(kind: Kind) -> Step {
    let session = Some(Ref::Known(0));
    step(Ask::Sessioned { session, version: None, message: message(kind) })
}

fn stateless(kind: Kind) -> Step {
    let meta = Meta { unable: 0, level: Some(0), version: None, trace: false };
    step(Ask::Stateless { message: message(kind), meta })
}

fn call(name: &str, number: u8, optional: u8) -> Kind {
    Kind::Tool {
        tool: tool(name),
        text: Text::Word(0),
        number: Number::Small(number),
        optional,
        handle: None,
        overlay: vec![],
    }
}

fn called(name: &str) -> Step {
    sessioned(call(name, 3, 0))
}

fn modern(name: &str) -> Step {
    stateless(call(name, 3, 0))
}

/// An echo that waits for three seconds.
fn slow() -> Step {
    sessioned(call("echo", 3, 0b1))
}

fn store() -> Step {
    called("set_session_data")
}

fn watch() -> Step {
    sessioned(Kind::Subscribe(Uri::Data(Ref::Known(0), Word::Known(0))))
}

fn prompt() -> Step {
    stateless(Kind::Prompt { prompt: 5, blanks: vec![] })
}

fn task() -> Step {
    stateless(Kind::Task { verb: 0, task: Ref::Known(0) })
}

/// Task method of that number, with an answer to what the task has asked.
fn answered(verb: u8) -> Step {
    let mut message = message(Kind::Task { verb, task: Ref::Known(0) });
    message.extra.answer = Some(Answer::Accept(Word::Known(0), Text::Word(0)));
    step(Ask::Stateless {
        message,
        meta: Meta { unable: 0, level: None, version: None, trace: false },
    })
}

/// After it the client may be asked.
fn ready() -> Step {
    sessioned(Kind::Notice(1, RpcId::Small(7)))
}

/// Answers the last question on a stream.
fn reply() -> Step {
    let answer = Answer::Accept(Word::Known(0), Text::Word(0));
    sessioned(Kind::Answer { question: Ref::Known(0), answer })
}

fn cancel() -> Step {
    sessioned(Kind::Notice(0, RpcId::Small(7)))
}

fn listen() -> Step {
    let uris = vec![Uri::Fixed(4), Uri::Data(Ref::Known(0), Word::Known(0))];
    stateless(Kind::Listen { lists: 0, uris, tasks: vec![] })
}

fn again(answer: &str) -> Step {
    let field = Word::Free(Text::Free(answer.to_owned()));
    step(Ask::Again { answer: Answer::Accept(field, Text::Word(0)), state: true })
}
