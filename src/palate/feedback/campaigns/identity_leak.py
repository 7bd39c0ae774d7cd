"""Finds answers in which a model says who it is: a vote on such an answer is not blind."""

from __future__ import annotations

import re

MODELS = (
    *("ChatGPT", "GPT", "Qwen", "Tongyi", "DeepSeek", "Mixtral", "Le Chat", "ChatGLM", "GLM", "Kimi", "Doubao"),
    *("Hunyuan", "Ernie Bot", "SmolLM", "InternLM", "Baichuan", "MiniMax", "OLMo", "通义千问", "文心一言", "豆包"),
)
"""Names of language models that mean nothing else, or rarely; in any case of letters."""

AMBIGUOUS = (
    *("Claude", "Gemini", "Gemma", "Bard", "Llama", "LLaMA", "LLama", "Mistral", "Grok", "Phi", "Copilot", "Falcon"),
    *("Granite", "Nova", "Vicuna", "Alpaca", "Zephyr", "Command R"),
)
"""Names that are also those of people, animals, signs or things; only in the model's own spelling."""

MAKERS = (
    *("OpenAI", "Anthropic", "Google DeepMind", "Google", "DeepMind", "Meta AI", "Meta", "Alibaba Cloud", "Alibaba"),
    *("Mistral AI", "Mistral", "DeepSeek", "xAI", "Microsoft", "Moonshot AI", "Zhipu AI", "Zhipu", "Baidu", "Tencent"),
    *("ByteDance", "Cohere", "Hugging Face", "Amazon", "NVIDIA", "IBM", "Apple", "Ai2", "LMSYS", "阿里云", "阿里巴巴"),
    *("深度求索", "百度", "字节跳动", "腾讯", "智谱", "谷歌", "月之暗面"),
)
"""Who makes models, as they are written."""

# Most answers have none of these, so most need no pattern.
_WORDS = tuple(dict.fromkeys(name.lower() for name in (*MODELS, *AMBIGUOUS, *MAKERS)))

# " 3.1", "-V3", "2.5-7B", "-4o"
_VERSION = r"(?:[ -]?[vVrR]?\d(?:[\w.-]*\w)?)?"
_NAME = f"(?P<name>(?:(?i:{'|'.join(MODELS)})|{'|'.join(AMBIGUOUS)}){_VERSION})"
_MAKER = f"(?P<name>{'|'.join(MAKERS)})"
_I_AM = (
    r"\b(?i:I am|I['’]m|my name is|I go by|ich bin|mein Name ist|je suis|je m['’]appelle|soy|me llamo|eu sou|sono)\s+"
)
_KIND = r"(?:AI|artificial intelligence|language model|assistant|chatbot|LLM|model)"
_MADE = r"(?:created|developed|trained|made|built|designed|provided)"
_PEOPLE_OF = r"(?:(?:an?|the|team|company|researchers|engineers|people|at|of|from)\s+){0,5}?"

# "a helpful AI assistant", but not "a user of an AI assistant"
_WHAT = rf"(?i:an?)\s+(?:(?!of\b|with\b|using\b|for\b)[\w-]+\s+){{0,4}}?(?i:{_KIND})\b"

# A surname after the name (Claude Monet) means a person.
_NO_SURNAME = r"(?![\w’']|\s+(?!AI\b|Pro\b|Sonnet\b|Opus\b|Haiku\b|Flash\b|Instruct\b|Chat\b)[A-Z][a-z])"

_PATTERNS = tuple(
    re.compile(pattern)
    for pattern in (
        # "I am Claude", "I'm an AI assistant called Qwen", "I am the language model DeepSeek"
        rf"{_I_AM}(?:(?i:an?|the)\s+(?:[\w-]+\s+){{0,5}}?(?i:called|named|{_KIND})\s+)?{_NAME}{_NO_SURNAME}",
        # "As ChatGPT by OpenAI", "As Claude, I cannot"
        rf"\b(?i:as)\s+{_NAME}(?:,\s*(?:I\b|(?i:an?\s+(?:[\w-]+\s+){{0,3}}?{_KIND}))|\s+(?:by|from|I)\b)",
        # "I was created by Anthropic"
        rf"\b(?i:I was|I have been|I['’]ve been|I am|I['’]m)\s+(?:\w+\s+){{0,2}}?{_MADE}\s+by\s+{_PEOPLE_OF}{_MAKER}\b",
        # "I am a large language model, trained by Google"
        rf"\b(?i:I am|I['’]m)\s+{_WHAT}[^.!?\n]{{0,60}}?\b(?:{_MADE}\s+by|from|by)\s+{_MAKER}\b",
        # "As an AI developed by OpenAI, I cannot"
        rf"\b(?i:as)\s+{_WHAT}[^.!?\n]{{0,60}}?\b(?:{_MADE}\s+by|from|by)\s+{_MAKER}\b(?=[^.!?\n]{{0,80}}\bI\b)",
        rf"(?:我是|我叫|我的名字是)[^。！？\n]{{0,24}}?{_NAME}",
        rf"我[^。！？\n]{{0,12}}由[^。！？\n]{{0,6}}{_MAKER}[^。！？\n]{{0,12}}(?:开发|训练|创造|研发|推出)",
    )
)


def leaked_name(text: str) -> str | None:
    """The name, of a model or its maker, by which the answer says who wrote it; None if it does not.

    An answer that only speaks of models ("tools such as ChatGPT") says nothing about its own writer.
    """
    lowered = text.lower()
    if not any(word in lowered for word in _WORDS):
        return None
    for pattern in _PATTERNS:
        found = pattern.search(text)
        if found is not None:
            return found["name"]
    return None
