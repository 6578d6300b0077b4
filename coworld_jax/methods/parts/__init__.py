"""What several methods share: phases and updates that know domains. A part is no method."""
