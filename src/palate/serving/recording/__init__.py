"""Recording of interactions and of feedback on them, in the store."""

from palate.serving.recording.entries import NewInteraction, RecordedAnswer, Usage
from palate.serving.recording.feedback import Feedback, FeedbackError
from palate.serving.recording.recorder import Recorder, shared_secret

__all__ = ["Feedback", "FeedbackError", "NewInteraction", "RecordedAnswer", "Recorder", "Usage", "shared_secret"]
