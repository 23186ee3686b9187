"""Planning from what the inspections found, on a real PostgreSQL."""

from __future__ import annotations

from sqlalchemy import select

from farm import catalog
from farm.control.advance import advance_next
from farm.control.planning import plan_job
from farm.domain.artifact import Artifact, FileRef
from farm.domain.codec import decode, digest, encode
from farm.domain.errors import CorruptModel, UnsafeModel
from farm.domain.facts import Format, ModelFacts, TensorSpec
from farm.domain.plan import Plan
from farm.domain.preprocessing import declared, read_preprocessing
from farm.intake import begin, inspections
from farm.ledger import hosts, jobs, steps
from farm.ledger.events import wake
from farm.ledger.tables import Job, Step
from farm.wire.hosts import Attestation
from farm.wire.jobs import JobRequest
from tests.control_fixtures import PROJECT, QUEUE, Farm, attest, farm, job_now, whole_farm
from tests.domain_run import facts_of

__all__ = ["farm", "whole_farm"]
FILE = {"sha256": "0" * 64, "size_bytes": 1}


def model(name: str) -> dict[str, object]:
    return {"file_name": name, "artifact": {"files": [FILE | {"name": name}]}}


SMALL = ModelFacts(Format.TFLITE, (TensorSpec("x", "int8", (1, 8)),), (TensorSpec("y", "int8", (1, 2)),))
PREPARED = FileRef("data.npz", "1" * 64, 2)
FACTS = ModelFacts(
    Format.ONNX, (TensorSpec("image", "float32", ("N", 3, 8, 8)),), (TensorSpec("scores", "float32", ("N", 2)),)
)
ARRAYS = {
    "image": {"dtype": "float32", "shape": [3, 3, 8, 8], "rows": ["a", "b", "c"]},
    "labels": {"dtype": "int64", "shape": [3], "minimum": 0, "maximum": 1, "classes": 2},
}
DECLARED = {"input": "image", "resize": [8, 8], "classes": ["dark", "bright"]}


def inspected(farm: Farm, **told: object) -> Job:
    """Plan a job of one model with pictures, whose inspections have succeeded; `told` is the model's."""
    given = model("one.onnx") | {"evaluation": FILE | {"name": "evaluation.zip", "sha256": "2" * 64}} | told
    request = JobRequest.model_validate({"models": [given], "targets": ["x86-64-v3"], "runtimes": ["onnxruntime"]})
    full = declared(read_preprocessing(DECLARED))
    facts = {"inspect-onnx": encode(FACTS), "inspect-pictures": {"arrays": ARRAYS, "preprocessing": full}}
    with farm.ledger.transaction() as session:
        locks = catalog.catalogue().locks
        attest(session, lock=locks["builder"], **{name: lock for name, lock in locks.items() if name != "builder"})
        job, _ = jobs.accept(session, PROJECT, request.model_dump(mode="json"), request_digest="pictures")
        world = catalog.world(hosts.live_hosts(session, grace_s=60))
        steps.enlist(session, job, [step for one in request.models for step in inspections(one, world)])
        session.flush()
        for step in session.scalars(select(Step)):
            step.phase, step.facts = "succeeded", facts[step.stage]
            step.outputs = {"data": encode(Artifact((PREPARED,)))} if step.stage == "inspect-pictures" else {}
        session.flush()
        assert plan_job(session, job, farm.config)
        session.expunge_all()
    return job_now(farm, job.id)


def test_what_inspection_made_of_pictures_is_what_the_source_is_run_on(farm: Farm) -> None:
    plan = decode(Plan, inspected(farm).plan)
    read = {one.artifact for step in plan.steps.values() for one in step.inputs if one.role == "samples"}

    assert read - {None} == {Artifact((PREPARED,))}
    assert all(result.preprocessing == declared(read_preprocessing(DECLARED)) for result in plan.results)
    assert any("3 different samples" in note for note in plan.results[0].notes)


def test_the_range_that_a_request_gives_an_input_reaches_the_ledgers_steps(farm: Farm) -> None:
    """Given an ONNX file, which can't say it."""
    plan = decode(Plan, inspected(farm, inputs=["image:float32[1,3,8,8] in -1..255"]).plan)

    assert {str(step.options["ranges"]) for step in plan.steps.values()} == {"{'image': [-1.0, 255.0]}"}


def test_a_range_of_no_value_is_refused_before_any_step(farm: Farm) -> None:
    refused = inspected(farm, inputs=["image:float32[1,3,8,8] in 255..-1"])

    assert refused.state == "refused"
    assert "'255..-1', which is not LOW..HIGH" in refused.reasons[0]["message"]


def test_pictures_that_were_prepared_otherwise_than_the_request_declares_are_refused(farm: Farm) -> None:
    job = inspected(farm, preprocessing=DECLARED | {"resize": [9, 9]})

    assert job.state == "refused"
    assert [reason["code"] for reason in job.reasons] == ["bad-request"]
    assert "not as declared" in job.reasons[0]["message"]


def test_what_lacks_its_calibration_data_is_refused_before_any_step(farm: Farm) -> None:
    asked = {"targets": ["x86-64-v3"], "runtimes": ["onnxruntime"], "models": [model("one.onnx")]}
    with farm.ledger.transaction() as session:
        locks = catalog.catalogue().locks
        attest(session, lock=locks["builder"], onnxruntime=locks["onnxruntime"])
        live = hosts.live_hosts(session, grace_s=60)
        states = []
        for recipes in (["int8-static"], ["int8-static", "float16"]):
            request = JobRequest.model_validate(asked | {"recipes": recipes})
            job, _ = jobs.accept(session, PROJECT, request.model_dump(mode="json"), request_digest=str(recipes))
            begin(session, job, request, live)
            states.append((job.state, [reason["message"] for reason in job.reasons]))

    assert states[0] == ("refused", ["Recipe int8-static needs calibration data, and one has none."])
    assert states[1] == ("inspecting", [])


def test_equal_bytes_under_two_formats_have_an_inspection_each(farm: Farm) -> None:
    said = {"models": [model("one.onnx"), model("two.tflite")], "targets": ["x86-64-v3"], "runtimes": ["onnxruntime"]}
    request = JobRequest.model_validate(said)
    failures = {"inspect-onnx": CorruptModel("It is no ONNX."), "inspect-tflite": UnsafeModel("It is no TFLite.")}
    with farm.ledger.transaction() as session:
        locks = catalog.catalogue().locks
        attest(
            session, **{"lock": locks["builder"], **{name: lock for name, lock in locks.items() if name != "builder"}}
        )
        job, _ = jobs.accept(session, PROJECT, request.model_dump(mode="json"), request_digest="same")
        world = catalog.world(hosts.live_hosts(session, grace_s=60))
        steps.enlist(session, job, [step for given in request.models for step in inspections(given, world)])
        session.flush()
        for step in session.scalars(select(Step)):
            step.phase, step.failure = "failed", encode(failures[step.stage].failure)
        session.flush()

        assert plan_job(session, job, farm.config)

    assert {(reason["model"], reason["code"]) for reason in job.reasons} == {
        ("one", "corrupt-model"),
        ("two", "unsafe-model"),
    }


def end_ready(farm: Farm, job: str) -> None:
    """Let every ready step succeed, with an output for each model where it compiles several."""
    with farm.ledger.transaction() as session:
        for step in session.scalars(select(Step).where(Step.phase == "ready")):
            given = steps.planned_of(step)
            step.phase, step.facts = "succeeded", encode(SMALL) if step.kind == "inspect" else facts_of(given)
            names = ("samples",) if step.kind == "reference" else [one.role for one in given.inputs]
            step.outputs = {name: encode(Artifact((FileRef(name, digest(step.key + name), 1),))) for name in names}
        wake(session, [job])


def test_models_compiled_together_go_from_a_request_to_results_that_name_the_others(farm: Farm) -> None:
    """Given a host of coral-usb, whose steps all end well; then each share finds its own output of the one step."""
    files = [{"name": f"{name}.tflite", "sha256": digest(name), "size_bytes": 1} for name in ("faces", "hands")]
    models = [{"file_name": one["name"], "artifact": {"files": [one]}} for one in files]
    told = {"models": models, "targets": ["coral-usb"], "runtimes": ["edgetpu"], "co_compile": True}
    request = JobRequest.model_validate(told)
    host = {"name": "coral-1", "profile": "coral-usb", "can_measure": True, "architecture": "x86_64", "emulated": False}
    does = {"isolation": "full", "environments": catalog.catalogue().locks, "serves": [QUEUE, "target.coral-usb"]}
    with farm.ledger.transaction() as session:
        hosts.attest(session, Attestation.model_validate(host | does))
        job = jobs.accept(session, PROJECT, request.model_dump(mode="json"), request_digest="together")[0].id
        begin(session, session.get_one(Job, job), request, hosts.live_hosts(session, grace_s=60))
    for _ in range(8):
        end_ready(farm, job)
        while farm.ledger.run(lambda session: advance_next(session, farm.config)):
            pass

    with farm.ledger.transaction() as session:
        rows = jobs.results_of(session, job)
        assert [(row.verdict, (row.body or {})["compiled_with"]) for row in rows] == [
            ("ok", ["hands"]),
            ("ok", ["faces"]),
        ]
        (whole,) = session.scalars(select(Step).where(Step.stage == "compile-tflite-to-edgetpu-tflite"))
        for step in session.scalars(select(Step).where(Step.stage == "compile-edgetpu-tflite-share")):
            _, compiled = steps.planned_of(step).inputs
            assert steps.inputs_of(session, step)[compiled.step or ""].id == whole.id
            assert compiled.output in whole.outputs
