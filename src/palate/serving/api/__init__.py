"""The endpoints of the OpenAI API: what a request asks for, and how its reply is written."""
