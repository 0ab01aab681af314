"""Tools that a model may call.

schemas     functions of Python or OpenAI's schemas, checked, and which of them may or have to be called
format      how a model writes its calls, found in what its template writes of them
calls       an answer divided into what is said and what is called, read as it comes
cursor      text that is read as it comes
arguments   what the texts in a call stand for, where they are no JSON
grammar     what a model may write that calls tools, for constraints
use         all of it for one answer
"""
