"""Adapting, with the habits of scikit-learn: estimators for its pipelines, searches and scores.

>>> from adapt.sklearn import FewShotClassifier
>>> few = FewShotClassifier(method="head").fit([[0.0], [1.0], [4.0], [5.0]], ["a", "a", "b", "b"])
>>> few.predict([[4.5]])
array(['b'], dtype='<U1')
"""

from adapt.sklearn.classifier import FewShotClassifier
from adapt.sklearn.regressor import FewShotRegressor

__all__ = ["FewShotClassifier", "FewShotRegressor"]
