"""What the prompts are about, and what the dataset has little of: topics and kinds of improvement."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.cluster import KMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from palate.data.inspect.inspection import PromptCluster
from palate.data.measures.pairs import IMPROVEMENTS
from palate.data.measures.words import SMALL_WORDS, tokens

_SHORT_FORMS = ("'s", "'m", "'re", "'ve", "'ll", "'d", "n't")
MIN_JUDGED = 50
"""Below this number of pairs the shares of improvements are not reported."""
RARE_KIND = 0.05
"""Largest share of the pairs with which a kind of improvement is rare."""
RARE_TOPIC = 0.02
"""Largest share of the prompts with which a topic is rare."""


def prompt_clusters(texts: Sequence[str]) -> tuple[PromptCluster, ...]:
    """Groups of prompts with words in common, largest first: k-means over 20 latent TF-IDF dimensions, fixed seed."""
    k = min(12, len(texts) // 20)
    documents = [[word for word in tokens(text) if _is_content(word)] for text in texts]
    repeated = sum(count > 1 for count in Counter(word for words in documents for word in set(words)).values())
    if k < 2 or repeated < k:
        return ()
    vectorizer = TfidfVectorizer(analyzer=list, min_df=2, max_features=2000, sublinear_tf=True)
    table = vectorizer.fit_transform(documents)  # [prompts, words]
    vocabulary = vectorizer.get_feature_names_out()
    with np.errstate(invalid="ignore", divide="ignore"):  # prompts with the same words have no variance to explain
        reduced = normalize(TruncatedSVD(min(20, len(vocabulary)), random_state=0).fit_transform(table))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different prompts than clusters
        cluster_of = KMeans(k, n_init=1, random_state=0).fit_predict(reduced)
    mean = np.ravel(table.mean(axis=0))
    found = []
    for cluster, size in Counter(cluster_of.tolist()).most_common():
        # Words that are more frequent in the cluster than in all prompts.
        marks = np.argsort(mean - np.ravel(table[cluster_of == cluster].mean(axis=0)), kind="stable")[:5]
        found.append(PromptCluster(tuple(map(str, vocabulary[marks])), size, size / len(texts)))
    return tuple(found)


def rare_kinds(improvements: Mapping[str, int]) -> dict[str, float]:
    """Accuracy, helpfulness and safety, with their share, where it is rare; none for few pairs."""
    total = sum(improvements.values())
    if total < MIN_JUDGED:
        return {}
    shares = {name: improvements.get(name, 0) / total for name in IMPROVEMENTS[:3]}
    return {name: share for name, share in shares.items() if share < RARE_KIND}


def rare_topics(clusters: Sequence[PromptCluster]) -> list[PromptCluster]:
    return [cluster for cluster in clusters if cluster.share < RARE_TOPIC]


def gaps(improvements: Mapping[str, int], clusters: tuple[PromptCluster, ...]) -> list[str]:
    """What is rare: kinds of improvement under 5 % of 50 pairs or more, topics under 2 % of the prompts."""
    found = [f"few pairs are about {name} ({share:.1%})" for name, share in rare_kinds(improvements).items()]
    topics = ((", ".join(cluster.words[:3]), cluster.share) for cluster in rare_topics(clusters))
    return [*found, *(f"few prompts are about {words} ({share:.1%})" for words, share in topics)]


def _is_content(word: str) -> bool:
    """Whether a word may say what a text is about."""
    long_enough = (len(word) > 2 or not word.isascii()) and not word.isdigit()
    return long_enough and word not in SMALL_WORDS and not word.endswith(_SHORT_FORMS)
