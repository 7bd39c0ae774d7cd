"""Recording of interactions and of feedback on them, in the store."""

from palate.serving.recording.entries import NewInteraction, RecordedChoice, Usage
from palate.serving.recording.feedback import Feedback, FeedbackError
from palate.serving.recording.recorder import Recorder, shared_secret

__all__ = ["Feedback", "FeedbackError", "NewInteraction", "RecordedChoice", "Recorder", "Usage", "shared_secret"]
