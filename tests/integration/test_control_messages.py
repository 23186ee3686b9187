"""Messages that Redis lost, with a real Redis: all come back at once, none is sent twice for it."""

from __future__ import annotations

import pytest
from redis import Redis
from sqlalchemy import select

from farm.control.messages import BATCH, Republisher, send_outbox
from farm.domain.errors import FarmUnreachable
from farm.domain.stage import Kind
from farm.ledger import steps
from farm.ledger.tables import Step
from farm.queue import Broker, make_app, publish
from tests.control_fixtures import QUEUE, Farm, farm, new_job, planned, whole_farm

__all__ = ["farm", "whole_farm"]
MANY = 2 * BATCH + 50


@pytest.fixture
def redis(farm: Farm) -> Redis:
    server = Redis.from_url(farm.config.redis_url.get_secret_value())
    server.flushall()
    return server


def republisher(farm: Farm) -> Republisher:
    url = farm.config.redis_url.get_secret_value()
    return Republisher(make_app(url), Broker(url), farm.config)


def publish_many(farm: Farm, count: int) -> None:
    with farm.ledger.transaction() as session:
        new_job(session, [planned(f"step-{number}") for number in range(count)])
        session.flush()
        steps.dispatch(session, session.scalars(select(Step.id)).all())
    app = make_app(farm.config.redis_url.get_secret_value())
    while farm.ledger.run(lambda session: send_outbox(session, app, farm.config)):
        pass


def tick(farm: Farm, lost: Republisher) -> None:
    while farm.ledger.run(lost.republish):
        pass


def waiting(farm: Farm) -> int:
    return Broker(farm.config.redis_url.get_secret_value()).length(QUEUE)


def test_an_inspection_passes_what_waits_already(farm: Farm, redis: Redis) -> None:
    app = make_app(farm.config.redis_url.get_secret_value())
    for name, kind in (("a", Kind.CONVERT), ("b", Kind.MEASURE), ("c", Kind.INSPECT), ("d", Kind.INSPECT)):
        publish(app, step_id=name, attempt=1, queue=QUEUE, kind=kind, shown_as=name)

    with app.connection_for_read() as connection:
        queue = connection.SimpleQueue(QUEUE)
        received = [queue.get(timeout=5).payload[0][0] for _ in "abcd"]

    assert received == ["c", "d", "a", "b"]


def test_all_messages_of_a_flushed_redis_come_back_at_once_and_once(farm: Farm, redis: Redis) -> None:
    lost = republisher(farm)
    tick(farm, lost)
    publish_many(farm, MANY)
    redis.flushall()

    tick(farm, lost)

    assert waiting(farm) == MANY
    tick(farm, lost)
    assert waiting(farm) == MANY


def test_a_control_that_stops_in_between_is_followed_by_one_that_sends_the_rest(farm: Farm, redis: Redis) -> None:
    publish_many(farm, MANY)
    redis.flushall()
    assert farm.ledger.run(republisher(farm).republish)

    tick(farm, republisher(farm))

    assert waiting(farm) >= MANY


def test_a_redis_that_dies_in_between_begins_anew(farm: Farm, redis: Redis) -> None:
    publish_many(farm, MANY)
    redis.flushall()
    lost = republisher(farm)
    assert farm.ledger.run(lost.republish)
    broker, lost.broker = lost.broker, Broker("redis://127.0.0.1:1/0")
    with pytest.raises(FarmUnreachable):
        farm.ledger.run(lost.republish)
    redis.flushall()
    lost.broker = broker

    tick(farm, lost)

    assert waiting(farm) == MANY
