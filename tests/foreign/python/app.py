import json
from wit_world import exports
from wit_world.imports import config, types as t, events
from componentize_py_types import Err


class Projector(exports.Projector):
    def describe(self):
        return t.Description(
            name="foreign-python", version="1.0.0", summary="Notifies from Python when results are ready.",
            subscriptions=[t.Subscription(event_type="huleedu.ras.batch.results.ready.v1", subject=None)],
            config=[], requires=[])

    def check_config(self):
        pass

    def project(self, event, context):
        match event:
            case events.Event_BatchResultsReadyV1(e):
                message = f"{e.completed_essays} of {e.total_essays} essays ready"
                notification = t.Notification(
                    recipient=e.user_id, notification_type="batch_results_ready", category="processing_results",
                    priority=t.Priority.STANDARD, payload=json.dumps({"message": message}), key="", action_required=False,
                    deadline=None, batch_id=e.batch_id, class_id=None, thread=None, not_before=None,
                    expires_at=None, policies=[])
                return t.Answer(notifications=[notification], withdrawals=[])
            case _:
                raise Err(t.Rejection(code="unknown-event", reason=context.event_type))
