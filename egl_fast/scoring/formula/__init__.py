"""Expected Gradient Length: from a forward pass to score records.

Huang et al., "Active Learning for Speech Recognition: the Power of Gradients", 2016, Eq. 4:

    egl(x) = sum over the K most probable labelings y of  p(y|x) ||grad_theta loss(x, y)||^2

with loss(x, y) = -log p(y|x). The gradient of the loss with respect to the logits is
softmax(logits) - occupancy(y), which ``GradientEngine`` turns into the squared norm of the
parameter gradient. ``search`` is the first half, ``record`` the second.
"""
